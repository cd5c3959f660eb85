"""One image a run: of the gateway that attacks, by each of its protocols, or of a fair one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

PROTOCOLS: dict[str, dict[str, Any]] = {
    "fair": {"deferrable": True, "poll_interval": 1.5, "timeout": 600},
    "tasks": {"imagegen_conn_id": "hostile", "deferrable": True, "poll_interval": 1.5},
    "answers": {"imagegen_conn_id": "hostile_openai", "size": "1024x1024"},
    "streams": {"imagegen_conn_id": "hostile_openai", "size": "1024x1024", "stream": True},
}

for name, arguments in PROTOCOLS.items():
    with DAG(
        f"hostile_{name}",
        schedule=None,
        params={"prompt": ""},
        max_active_runs=100,
        default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
    ) as dag:
        GenerateImageOperator(
            **{
                "task_id": "generate",
                "prompt": "{{ params.prompt }}",
                "model": "gpt-image-1",
                "s3_bucket": "{{ var.value.imagegen_bucket }}",
                "timeout": 60,
                **arguments,
            }
        )
    globals()[dag.dag_id] = dag
