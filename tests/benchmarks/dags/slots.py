"""More images than the gateway takes at once, and a task of somebody else's that wants a worker meanwhile."""

from __future__ import annotations

import time
from datetime import timedelta

from airflow.providers.standard.sensors.time_delta import WaitSensor
from airflow.sdk import DAG, task

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

PARAMS = {"images": 2, "seconds": 30.0}


@task
def prompts(params: dict[str, int]) -> list[str]:
    return [f"a kite over the dunes, number {number}" for number in range(params["images"])]


@task
def waits(params: dict[str, float]) -> list[timedelta]:
    return [timedelta(seconds=params["seconds"])] * int(params["images"])


for name, pool in ("slots", "default_pool"), ("slots_too", "default_pool"), ("slots_pool", "slots"):
    with DAG(name, schedule=None, params=PARAMS):
        GenerateImageOperator.partial(
            task_id="generate",
            model="gpt-image-1",
            s3_bucket="{{ var.value.imagegen_bucket }}",
            poll_interval=2,
            pool=pool,
        ).expand(prompt=prompts())

with DAG("slots_wait", schedule=None, params=PARAMS):
    WaitSensor.partial(task_id="generate", deferrable=True).expand(time_to_wait=waits())

with DAG("slots_batch", schedule=None, params=PARAMS):
    GenerateImageBatchOperator(
        task_id="generate", requests=prompts(), model="gpt-image-1", s3_bucket="{{ var.value.imagegen_bucket }}"
    )

with DAG("bystander", schedule=None):

    @task
    def work() -> None:
        time.sleep(1)

    work()
