"""Generate as many images as the run configures, one or two per task, with a different prompt in every task."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

with DAG(
    "chaos",
    schedule=None,
    params={"tasks": 12},
    max_active_runs=100,
    max_active_tasks=1000,
    default_args={"retries": 6, "retry_delay": timedelta(seconds=1)},
):

    @task
    def prompts(run_id: str, params: dict[str, int]) -> list[dict[str, object]]:
        """Say what each task draws."""
        return [{"prompt": f"{run_id} number {i}", "n": 2 if i % 3 == 2 else 1} for i in range(params["tasks"])]

    GenerateImageOperator.partial(
        task_id="generate",
        model="gpt-image-1",
        s3_bucket="{{ var.value.imagegen_bucket }}",
        poll_interval=1.5,
    ).expand_kwargs(prompts())
