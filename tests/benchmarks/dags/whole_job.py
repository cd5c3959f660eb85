"""Generate the same images in three variants: one batch task, an operator per image, and a function per image."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

MODEL, SIZE = "gpt-image-1", "1024x1024"
BUCKET = "{{ var.value.imagegen_bucket }}"
PARAMS = {"images": 2}


@task
def prompts(params: dict[str, int]) -> list[str]:
    return [f"a kite over the dunes, number {number}" for number in range(params["images"])]


with DAG("whole_job_batch", schedule=None, params=PARAMS):
    GenerateImageBatchOperator(
        task_id="generate", requests=prompts(), model=MODEL, size=SIZE, s3_bucket=BUCKET, max_in_flight=10_000
    )

with DAG("whole_job_mapped", schedule=None, params=PARAMS):
    GenerateImageOperator.partial(task_id="generate", model=MODEL, size=SIZE, s3_bucket=BUCKET).expand(prompt=prompts())

with DAG("whole_job_openai", schedule=None, params=PARAMS):

    @task
    def generate(prompt: str, bucket: str, ti: Any = None) -> str:
        import base64

        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from airflow.sdk import Connection
        from openai import OpenAI

        account = Connection.get("openai_default")
        client = OpenAI(api_key=account.password, base_url=account.host)
        answer = client.images.generate(model=MODEL, prompt=prompt, size=SIZE)
        key = f"imagegen/{ti.dag_id}/{ti.run_id}/generate/{ti.map_index}.png"
        S3Hook().load_bytes(base64.b64decode(answer.data[0].b64_json), key=key, bucket_name=bucket)
        return f"s3://{bucket}/{key}"

    generate.partial(bucket=BUCKET).expand(prompt=prompts())
