"""A whole catalogue in one task: prompts from a csv file in S3, one picture for every row."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator

BUCKET = "{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}"

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
    @task
    def write_prompts(bucket: str) -> str:
        """Put the file there; in real life somebody else does."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        S3Hook().load_string(PROMPTS, "prompts/catalogue.csv", bucket, replace=True)
        return f"s3://{bucket}/prompts/catalogue.csv"

    # [START howto_operator_generate_image_batch]
    catalogue = GenerateImageBatchOperator(
        task_id="catalogue",
        requests=write_prompts(BUCKET),
        model="gpt-image-1",
        s3_bucket=BUCKET,
        max_in_flight=20,
    )
    # [END howto_operator_generate_image_batch]

    @task
    def report(summary: dict) -> str:
        """Say what became of it."""
        return f"{summary['landed']} of {summary['rows']} rows landed: {summary['manifest_uri']}"

    report(catalogue.output)


example_batch_from_csv()
