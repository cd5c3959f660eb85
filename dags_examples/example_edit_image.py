"""Generate an image and edit it: the whole image with a prompt, and a part of it with a mask."""

from __future__ import annotations

import pendulum
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import dag

from airflow_provider_imagegen.operators.imagegen import EditImageOperator, GenerateImageOperator

BUCKET = "{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}"
SOURCE = "{{ ti.xcom_pull(task_ids='generate')['images'][0]['uri'] }}"


def mask_of_the_sky(bucket: str) -> str:
    """Upload a mask with the size of the image; its transparent area will be edited."""
    from io import BytesIO

    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from PIL import Image

    mask, file = Image.new("RGBA", (1024, 1024), "white"), BytesIO()
    mask.paste((0, 0, 0, 0), (0, 0, 1024, 400))
    mask.save(file, "PNG")
    S3Hook().load_bytes(file.getvalue(), "masks/sky.png", bucket, replace=True)
    return f"s3://{bucket}/masks/sky.png"


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_edit_image():
    generate = GenerateImageOperator(
        task_id="generate",
        prompt="A white cottage on a cliff, seen from the sea",
        model="gpt-image-1",
        size="1024x1024",
        s3_bucket=BUCKET,
    )

    # [START howto_operator_edit_image]
    at_night = EditImageOperator(
        task_id="at_night",
        prompt="The same at night, with light in the windows",
        model="gpt-image-1",
        images=[SOURCE],
        s3_bucket=BUCKET,
    )
    # [END howto_operator_edit_image]

    mask = PythonOperator(task_id="mask_of_the_sky", python_callable=mask_of_the_sky, op_args=[BUCKET])

    # [START howto_operator_edit_image_mask]
    with_gulls = EditImageOperator(
        task_id="with_gulls",
        prompt="Gulls in the sky",
        model="gpt-image-1",
        images=[SOURCE],
        mask=mask.output,
        s3_bucket=BUCKET,
    )
    # [END howto_operator_edit_image_mask]

    generate >> [at_night, with_gulls]


example_edit_image()
