"""Images that Celery workers submit and land."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

BUCKET = "{{ var.value.imagegen_bucket }}"

# What is held must outlast whatever else a busy machine does meanwhile.
LONG = timedelta(hours=12)
RETRIES: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(0)}

with DAG("distributed_deferred", schedule=None):
    GenerateImageOperator.partial(
        task_id="generate", model="gpt-image-1", s3_bucket=BUCKET, timeout=LONG, poll_interval=1
    ).expand(prompt=[f"A ferry that is deferred, number {number}" for number in range(4)])

with DAG("distributed_on_workers", schedule=None):
    GenerateImageOperator.partial(
        task_id="generate",
        model="gpt-image-1",
        s3_bucket=BUCKET,
        timeout=LONG,
        poll_interval=1,
        deferrable=False,
        **RETRIES,
    ).expand(prompt=[f"A ferry with a crew, number {number}" for number in range(6)])

with DAG("distributed_batch", schedule=None):
    GenerateImageBatchOperator(
        task_id="generate",
        imagegen_conn_id="imagegen_openai",
        requests=[f"A row of ferries, {{{{ run_id }}}}, number {number}" for number in range(6)],
        model="gpt-image-1",
        size="1024x1024",
        s3_bucket=BUCKET,
        max_in_flight=4,
        **RETRIES,
    )
