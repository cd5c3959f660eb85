"""All kinds of failures, for the test that searches for leaked secrets, which come from connections and Variables."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, get_current_context, task

from airflow_provider_imagegen.operators.imagegen import EditImageOperator, GenerateImageOperator

BUCKET = "{{ var.value.imagegen_bucket }}"


@task
def cases(kind: str) -> list[dict[str, Any]]:
    """Return the arguments of one kind's tasks, as the run's configuration has them."""
    found: list[dict[str, Any]] = get_current_context()["dag_run"].conf[kind]
    return found


@task
def leak(decoy: str) -> str:
    """Leak a fake secret, to prove that leaks are found."""
    print(f"a decoy on the run: {decoy}")
    return decoy


with DAG("canaries", schedule=None):
    arguments = {
        "callback_url": "{{ var.value.canary_callback }}",
        "extra": {"reference": "{{ var.value.canary_link }}"},
    }
    GenerateImageOperator.partial(task_id="generate", on_partial="accept", poll_interval=1, **arguments).expand_kwargs(
        cases.override(task_id="cases_of_tasks")("generate")
    )
    GenerateImageOperator.partial(task_id="generate_at_once", land_previews=True).expand_kwargs(
        cases.override(task_id="cases_at_once")("generate_at_once")
    )
    for name in ("source", "astray"):
        EditImageOperator(
            task_id=f"edit_{name}",
            prompt="The same at night",
            model="gpt-image-1",
            images=[f"{{{{ var.value.canary_{name} }}}}"],
            mask=f"{{{{ var.value.canary_{name} }}}}",
            imagegen_conn_id="canary_watched",
            s3_bucket=BUCKET,
            **arguments,
        )
    leak("{{ var.value.canary_decoy }}")
