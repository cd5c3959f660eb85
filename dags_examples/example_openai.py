"""Generate an image with a synchronous gateway: the response contains the image, so the worker waits for it.

The connection ``imagegen_openai`` has ``https://api.openai.com`` as its host and the API key as its password.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import dag

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_openai():
    # [START howto_operator_generate_image_openai]
    GenerateImageOperator(
        task_id="generate",
        imagegen_conn_id="imagegen_openai",
        prompt="A paper boat on a puddle",
        model="gpt-image-1",
        size="1024x1024",
        quality="low",
        output_format="webp",
        s3_bucket="{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}",
    )
    # [END howto_operator_generate_image_openai]


example_openai()
