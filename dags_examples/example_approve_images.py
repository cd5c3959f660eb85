"""Somebody looks at the images before they go out: they are approved, rejected, or drawn once more.

The request in the UI shows them; without a response within a day they are rejected.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.configuration import conf
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.sdk import dag

from airflow_provider_imagegen.gallery.addresses import image_path
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator


# [START howto_show_images_in_approval]
def show(ti, task_id: str) -> str:
    """Return Markdown with the images of a task, which only those see who may read the DAG's XComs."""
    base_url = conf.get("api", "base_url", fallback="").rstrip("/")
    images = ti.xcom_pull(task_ids=task_id)["images"]
    paths = [image_path(ti.dag_id, ti.run_id, task_id, -1, image["index"]) for image in images]
    return "\n\n".join(f"![{task_id}]({base_url}{path})" for path in paths)


# [END howto_show_images_in_approval]


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
    user_defined_macros={"show": show},
    default_args={
        "prompt": "A cup of tea on a window sill, rain outside",
        "model": "gpt-image-1",
        "n": 2,
        "size": "1024x1024",
        "s3_bucket": "{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}",
        "response_timeout": timedelta(days=1),
    },
)
def example_approve_images():
    # [START howto_approve_images]
    generate = GenerateImageOperator(task_id="generate")

    decide = HITLOperator(
        task_id="decide",
        subject="Shall these images go out?",
        body="{{ show(ti, 'generate') }}",
        options=["Approve", "Re-roll", "Reject"],
        defaults=["Reject"],
    )

    def next_task(answer: dict) -> str | None:
        """Say what comes next; nothing after a rejection, which skips the rest."""
        return {"Approve": "publish", "Re-roll": "generate_again"}.get(answer["chosen_options"][0])

    go_on = BranchPythonOperator(task_id="go_on", python_callable=next_task, op_args=[decide.output])

    # Asks for the same; being a task of its own it is drawn, and paid for, again. Its retries are not.
    generate_again = GenerateImageOperator(task_id="generate_again")

    approve_again = ApprovalOperator(
        task_id="approve_again",
        subject="Shall the new images go out?",
        body="{{ show(ti, 'generate_again') }}",
        defaults=["Reject"],
    )

    def approved(first: dict, second: dict | None) -> list[str]:
        """Hand the addresses of the approved images on."""
        return [image["uri"] for image in (second or first)["images"]]

    publish = PythonOperator(
        task_id="publish",
        python_callable=approved,
        op_args=[generate.output, generate_again.output],
        trigger_rule="none_failed_min_one_success",
    )

    generate >> decide
    go_on >> [publish, generate_again]
    generate_again >> approve_again >> publish
    # [END howto_approve_images]


example_approve_images()
