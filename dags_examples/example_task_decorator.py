"""Return the prompt from a Python function: the decorated task generates and lands the image."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task

BUCKET = "{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}"


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_task_decorator():
    @task
    def headline() -> str:
        """Return the headline to illustrate."""
        return "Ferries sail again after the storm"

    # [START howto_task_generate_image]
    @task.generate_image(model="gpt-image-1", size="1536x1024", s3_bucket=BUCKET)
    def illustrate(headline: str) -> str:
        return f"Newspaper illustration, ink on paper: {headline}"

    manifest = illustrate(headline())
    # [END howto_task_generate_image]

    @task
    def publish(manifest: dict) -> list[str]:
        """Return the URIs of the landed images."""
        return [image["uri"] for image in manifest["images"]]

    publish(manifest)


example_task_decorator()
