"""Two pictures a day: a templated prompt, images in S3, their manifest handed to the next task."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator


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
        s3_bucket="{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}",
    )
    # [END howto_operator_generate_image]

    @task
    def publish(manifest: dict) -> list[str]:
        """Hand the addresses of the landed images on."""
        for image in manifest["images"]:
            print(f"{image['uri']}: {image['width']}x{image['height']}, {image['bytes']} bytes")
        return [image["uri"] for image in manifest["images"]]

    publish(generate.output)


example_generate_image()
