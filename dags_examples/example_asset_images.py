"""One DAG draws, another publishes: they share nothing but an asset, whose event says what landed where."""

from __future__ import annotations

import pendulum
from airflow.sdk import Asset, dag, task

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

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
        s3_bucket="{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}",
        outlets=[header_images],
    )


@dag(
    schedule=[header_images],
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_asset_images_consumer():
    @task
    def publish(triggering_asset_events=None) -> list[str]:
        """Hand the addresses of the images on; ``manifest_uri`` leads to all that is known of them."""
        extras = [event.extra for event in triggering_asset_events[header_images]]
        for extra in extras:
            print(f"{extra['delivered']} of {extra['requested']} images by {extra['model']}: {extra['manifest_uri']}")
        return [uri for extra in extras for uri in extra["uris"]]

    publish()


# [END howto_asset_images]

example_asset_images()
example_asset_images_consumer()
