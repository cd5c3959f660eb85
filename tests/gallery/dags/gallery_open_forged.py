"""Tasks whose XComs are changed afterwards by a user who can write XComs."""

from __future__ import annotations

from airflow.sdk import DAG, task

with DAG("gallery_open_forged", schedule=None) as dag:

    @task
    def forged() -> str:
        return "to be replaced"

    @task
    def long() -> str:
        return "to be replaced"

    @task
    def broken(*, ti):
        ti.xcom_push("failure", "to be replaced")
        raise RuntimeError("on purpose")

    [forged(), long(), broken()]
