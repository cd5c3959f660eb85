"""An image that only some users may see."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

with DAG("gallery_closed", schedule=None) as dag:
    GenerateImageOperator(
        task_id="secret",
        prompt="A closed door",
        model="gpt-image-1",
        size="1024x1024",
        s3_bucket="{{ var.value.imagegen_bucket }}",
    )
