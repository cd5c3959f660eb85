"""Generate as many images as the run configures: one per task, no retries, a different prompt in every task."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

with DAG("two_triggerers", schedule=None, params={"tasks": 24}, max_active_tasks=1000):

    @task
    def prompts(params: dict[str, int]) -> list[str]:
        """Say what each task draws."""
        return [f"buoy number {number} of a long chain" for number in range(params["tasks"])]

    GenerateImageOperator.partial(
        task_id="generate",
        model="gpt-image-1",
        s3_bucket="{{ var.value.imagegen_bucket }}",
        poll_interval=1,
        timeout=timedelta(hours=2),
    ).expand(prompt=prompts())
