"""Process an image in Python before storing it: only a thumbnail is uploaded to S3."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_taskflow_hook():
    # [START howto_hook_imagegen]
    # The hook keeps no ledger record: a retry would pay for another image.
    @task(retries=0)
    def create_thumbnail(bucket: str) -> str:
        from io import BytesIO

        import httpx
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from PIL import Image

        from airflow_provider_imagegen.hooks.imagegen import ImageGenHook

        (output,) = ImageGenHook().generate(prompt="A lighthouse in fog", model="gpt-image-1", size="1024x1024")
        content = output.content or httpx.get(output.url).raise_for_status().content

        image, thumbnail = Image.open(BytesIO(content)), BytesIO()
        image.thumbnail((256, 256))
        image.save(thumbnail, "WEBP")
        S3Hook().load_bytes(thumbnail.getvalue(), "thumbnails/lighthouse.webp", bucket, replace=True)
        return f"s3://{bucket}/thumbnails/lighthouse.webp"

    # [END howto_hook_imagegen]

    create_thumbnail("{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}")


example_taskflow_hook()
