"""Images that are waited for, deferred or on a worker, while tests do something to Airflow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.sdk import DAG

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

BUCKET = "{{ var.value.imagegen_bucket }}"

# What is held must outlast whatever else a busy machine does meanwhile.
LONG = timedelta(hours=12)


def lighthouse(prompt: str = "A lighthouse that waits, {{ run_id }}", **more: Any) -> GenerateImageOperator:
    common: dict[str, Any] = {"model": "gpt-image-1", "n": 2, "s3_bucket": BUCKET, "timeout": LONG, "poll_interval": 1}
    return GenerateImageOperator(task_id="generate", prompt=prompt, **common, **more)


with DAG("waiting", schedule=None):
    copy = S3CopyObjectOperator(
        task_id="copy",
        source_bucket_key="{{ ti.xcom_pull(task_ids='generate')['images'][0]['uri'] }}",
        dest_bucket_name=BUCKET,
        dest_bucket_key="copied/{{ run_id }}.png",
    )
    lighthouse() >> copy

with DAG("held_up", schedule=None):
    lighthouse(imagegen_conn_id="imagegen_held_up")

with DAG("on_worker", schedule=None):
    lighthouse("A lighthouse with a keeper", deferrable=False)
