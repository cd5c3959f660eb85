"""More images than the gateway takes at once, and a task of somebody else's that wants a worker meanwhile."""

from __future__ import annotations

import time

from airflow.sdk import DAG, task

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

PARAMS = {"images": 2}


@task
def prompts(params: dict[str, int]) -> list[str]:
    return [f"a kite over the dunes, number {number}" for number in range(params["images"])]


for name in "slots", "slots_too":
    with DAG(name, schedule=None, params=PARAMS):
        GenerateImageOperator.partial(
            task_id="generate", model="gpt-image-1", s3_bucket="{{ var.value.imagegen_bucket }}", poll_interval=2
        ).expand(prompt=prompts())

with DAG("slots_batch", schedule=None, params=PARAMS):
    GenerateImageBatchOperator(
        task_id="generate", requests=prompts(), model="gpt-image-1", s3_bucket="{{ var.value.imagegen_bucket }}"
    )

with DAG("bystander", schedule=None):

    @task
    def work() -> None:
        time.sleep(1)

    work()
