"""One picture, for tests that do something to Airflow while it is waited for."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

with DAG("waiting", schedule=None):
    GenerateImageOperator(
        task_id="generate",
        prompt="A lighthouse that waits",
        model="gpt-image-1",
        s3_bucket="{{ var.value.imagegen_bucket }}",
        poll_interval=1,
    )
