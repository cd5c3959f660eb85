"""Images that are waited for, deferred or on a worker, while tests do something to Airflow."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.sdk import DAG

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

BUCKET = "{{ var.value.imagegen_bucket }}"

# What is held must outlast whatever else a busy machine does meanwhile.
LONG = timedelta(hours=12)

with DAG("waiting", schedule=None):
    generate = GenerateImageOperator(
        task_id="generate",
        prompt="A lighthouse that waits, {{ run_id }}",
        model="gpt-image-1",
        n=2,
        s3_bucket=BUCKET,
        timeout=LONG,
        poll_interval=1,
    )
    copy = S3CopyObjectOperator(
        task_id="copy",
        source_bucket_key="{{ ti.xcom_pull(task_ids='generate')['images'][0]['uri'] }}",
        dest_bucket_name=BUCKET,
        dest_bucket_key="copied/{{ run_id }}.png",
    )
    generate >> copy

with DAG("held_up", schedule=None):
    GenerateImageOperator(
        task_id="generate",
        prompt="A lighthouse that waits, {{ run_id }}",
        model="gpt-image-1",
        n=2,
        s3_bucket=BUCKET,
        imagegen_conn_id="imagegen_held_up",
        timeout=LONG,
        poll_interval=1,
    )

with DAG("on_worker", schedule=None):
    GenerateImageOperator(
        task_id="generate",
        prompt="A lighthouse with a keeper",
        model="gpt-image-1",
        n=2,
        s3_bucket=BUCKET,
        timeout=LONG,
        poll_interval=1,
        deferrable=False,
    )
