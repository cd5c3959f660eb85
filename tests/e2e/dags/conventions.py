"""Conventions of Airflow providers in one run; images take longer than the worker waits before deferring."""

from __future__ import annotations

from airflow.providers.openlineage.utils.selective_enable import enable_lineage
from airflow.sdk import DAG, Asset, AssetAlias, task

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator
from airflow_provider_imagegen.operators.landing import LandImagesOperator
from airflow_provider_imagegen.sensors.imagegen import ImageTaskSensor

CONNECTION = {"imagegen_conn_id": "imagegen_paged"}
DESTINATION = {"s3_bucket": "{{ var.value.imagegen_bucket }}"}
COMMON = {"model": "gpt-image-1", "size": "1024x1024", **DESTINATION, **CONNECTION}

with DAG("conventions", schedule=None) as dag:

    @task.generate_image(outlets=[Asset("ferries"), AssetAlias("boats")], poll_interval=1, **COMMON)
    def ferry(weather: str, run_id: str) -> dict[str, str]:
        """Say what to draw."""
        return {"prompt": f"A ferry in {weather}, {run_id}", "quality": "low"}

    @task.generate_image(poll_interval=1, **COMMON)
    def boat(kind: str) -> str:
        """Say what to draw, once for every kind."""
        return f"A {kind} at its mooring"

    @task.generate_image(poll_interval=1, **COMMON)
    def fleet() -> list[dict[str, str]]:
        """Say what to draw, all at once."""
        return [{"prompt": f"A tug with the number {number}", "key": f"tug-{number}"} for number in range(3)]

    @task
    def ids(receipt: dict) -> list[str]:
        """Return the gateway's ids of what was submitted."""
        return receipt["task_ids"]

    ferry("fog")
    boat.expand(kind=["dinghy", "barge"])
    fleet()
    submitted = GenerateImageOperator(task_id="submit", prompt="A raft", n=2, wait=False, **COMMON)
    shared = {**DESTINATION, **CONNECTION}
    LandImagesOperator(task_id="land", submitted=submitted.output, poll_interval=1, outlets=[Asset("rafts")], **shared)
    ImageTaskSensor(task_id="watch", task_ids=ids(submitted.output), poke_interval=1, **CONNECTION)

enable_lineage(dag)
