"""Generate a catalogue in one task: prompts from a CSV file in S3, one image for every row."""

from __future__ import annotations

import pendulum
from airflow.providers.amazon.aws.operators.s3 import S3CreateObjectOperator
from airflow.sdk import dag

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator

BUCKET = "{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}"
PROMPTS_URI = f"s3://{BUCKET}/prompts/catalogue.csv"

PROMPTS = """\
key,prompt,size
shoes/red,A red running shoe on white,1024x1024
shoes/blue,A blue running shoe on white,1024x1024
hats/straw,A straw hat on white,1536x1024
hats/felt,A felt hat on white,1536x1024
"""


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_batch_from_csv():
    # In production another system writes this file.
    write_prompts = S3CreateObjectOperator(task_id="write_prompts", s3_key=PROMPTS_URI, data=PROMPTS, replace=True)

    # [START howto_operator_generate_image_batch]
    catalogue = GenerateImageBatchOperator(
        task_id="catalogue",
        requests=PROMPTS_URI,
        model="gpt-image-1",
        s3_bucket=BUCKET,
        max_in_flight=20,
    )
    # [END howto_operator_generate_image_batch]

    write_prompts >> catalogue


example_batch_from_csv()
