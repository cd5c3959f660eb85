"""Generate two images a day from a templated prompt; the next task reads one of them from the manifest."""

from __future__ import annotations

import pendulum
from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.sdk import dag

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

BUCKET = "{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}"


@dag(
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_generate_image():
    # [START howto_operator_generate_image]
    generate = GenerateImageOperator(
        task_id="generate",
        prompt="A quiet harbour at dawn, {{ dag_run.run_after.strftime('%A') }}",
        model="gpt-image-1",
        n=2,
        size="1536x1024",
        s3_bucket=BUCKET,
    )
    # [END howto_operator_generate_image]

    # [START howto_operator_generate_image_next]
    publish = S3CopyObjectOperator(
        task_id="publish",
        source_bucket_key="{{ ti.xcom_pull(task_ids='generate')['images'][0]['uri'] }}",
        dest_bucket_name=BUCKET,
        dest_bucket_key="published/{{ dag_run.run_after | ds }}.png",
    )
    # [END howto_operator_generate_image_next]

    generate >> publish


example_generate_image()
