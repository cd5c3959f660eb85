"""Sixty images in one task, all of which still run when the last is submitted."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator

# What is held must outlast whatever else a busy machine does meanwhile.
LONG = timedelta(hours=12)

with DAG("batch", schedule=None):

    @task
    def rows() -> list[dict[str, str]]:
        return [{"prompt": f"a row of {number} poplars", "key": f"poplars-{number:02}"} for number in range(60)]

    GenerateImageBatchOperator(
        task_id="generate",
        requests=rows(),
        model="gpt-image-1",
        size="1024x1024",
        s3_bucket="{{ var.value.imagegen_bucket }}",
        timeout=LONG,
        max_in_flight=60,
    )
