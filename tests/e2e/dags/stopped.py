"""A batch at a gateway that answers with the image, whose worker is told to stop in the middle."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator

with DAG("stopped", schedule=None):
    GenerateImageBatchOperator(
        task_id="generate",
        imagegen_conn_id="imagegen_stopped",
        requests=[f"six willows, number {number}" for number in range(6)],
        model="gpt-image-1",
        size="1024x1024",
        s3_bucket="{{ var.value.imagegen_bucket }}",
        max_in_flight=4,
        retries=1,
        retry_delay=timedelta(0),
    )
