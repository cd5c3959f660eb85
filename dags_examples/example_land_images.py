"""Submit now, land later: the gateway draws while other tasks run, and one task waits for all the pictures."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator
from airflow_provider_imagegen.operators.landing import LandImagesOperator


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
        s3_bucket="{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}",
        wait=False,
    ).expand(prompt=["A kettle on a stove", "A loaf of bread", "A jar of honey"])

    land = LandImagesOperator(task_id="land", submitted=submit.output)
    # [END howto_operator_land_images]

    @task
    def write_captions() -> list[str]:
        """Do something else in the meantime."""
        return ["Kettle", "Bread", "Honey"]

    @task
    def publish(captions: list[str], summary: dict) -> str:
        """Put both together."""
        return f"{summary['images']} pictures for {len(captions)} captions: {summary['manifest_uri']}"

    publish(write_captions(), land.output)


example_land_images()
