"""Submit now, land later: the gateway generates while other tasks run, and one task lands all images."""

from __future__ import annotations

import pendulum
from airflow.providers.amazon.aws.operators.s3 import S3CreateObjectOperator
from airflow.sdk import dag

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator
from airflow_provider_imagegen.operators.landing import LandImagesOperator

BUCKET = "{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}"


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_land_images():
    # [START howto_operator_land_images]
    submit = GenerateImageOperator.partial(
        task_id="submit",
        model="gpt-image-1",
        size="1024x1024",
        s3_bucket=BUCKET,
        wait=False,
    ).expand(prompt=["A kettle on a stove", "A loaf of bread", "A jar of honey"])

    # Another task runs in the meantime.
    write_captions = S3CreateObjectOperator(
        task_id="write_captions",
        s3_key=f"s3://{BUCKET}/captions.json",
        data='["Kettle", "Bread", "Honey"]',
        replace=True,
    )

    land = LandImagesOperator(task_id="land", submitted=submit.output, s3_bucket=BUCKET)

    submit >> write_captions >> land
    # [END howto_operator_land_images]


example_land_images()
