"""A batch at a synchronous gateway, and one retry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator

with DAG("stopped_worker", schedule=None, params={"rows": 2, "words": "a kite"}):

    @task
    def prompts(params: dict[str, Any]) -> list[str]:
        return [f"{params['words']}, number {number}" for number in range(params["rows"])]

    GenerateImageBatchOperator(
        task_id="generate",
        imagegen_conn_id="imagegen_stopped",
        requests=prompts(),
        model="gpt-image-1",
        s3_bucket="{{ var.value.imagegen_bucket }}",
        retries=1,
        retry_delay=timedelta(0),
    )
