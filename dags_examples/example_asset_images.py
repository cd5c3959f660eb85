"""One DAG generates images, another publishes them: an asset event tells the second DAG which images landed."""

from __future__ import annotations

import pendulum
from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.sdk import Asset, dag

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

BUCKET = "{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}"

# [START howto_asset_images]
header_images = Asset("example_header_images")


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_asset_images():
    GenerateImageOperator(
        task_id="generate",
        prompt="Rolling hills under a wide sky",
        model="gpt-image-1",
        size="1536x1024",
        s3_bucket=BUCKET,
        outlets=[header_images],
    )


@dag(
    schedule=[header_images],
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_asset_images_consumer():
    S3CopyObjectOperator(
        task_id="publish",
        source_bucket_key="{{ (triggering_asset_events.values() | first | last).extra['uris'][0] }}",
        dest_bucket_name=BUCKET,
        dest_bucket_key="published/header.png",
    )


# [END howto_asset_images]

example_asset_images()
example_asset_images_consumer()
