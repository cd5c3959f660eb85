"""Approve images before publishing: a person approves the images, rejects them, or requests new ones.

The approval in the UI shows the images. Without a response within a day they are rejected.
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
    """Return Markdown with the images of a task; viewing them requires permission to read the DAG's XComs."""
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
        subject="Publish these images?",
        body="{{ show(ti, 'generate') }}",
        options=["Approve", "Re-roll", "Reject"],
        defaults=["Reject"],
    )

    def next_task(response: dict) -> str | None:
        """Return the next task; None after a rejection, which skips the remaining tasks."""
        return {"Approve": "publish", "Re-roll": "generate_again"}.get(response["chosen_options"][0])

    branch = BranchPythonOperator(task_id="branch", python_callable=next_task, op_args=[decide.output])

    # The request is the same, but a separate task generates and pays again. Its retries do not.
    generate_again = GenerateImageOperator(task_id="generate_again")

    approve_again = ApprovalOperator(
        task_id="approve_again",
        subject="Publish the new images?",
        body="{{ show(ti, 'generate_again') }}",
        defaults=["Reject"],
    )

    def approved(first: dict, second: dict | None) -> list[str]:
        """Return the URIs of the approved images."""
        return [image["uri"] for image in (second or first)["images"]]

    publish = PythonOperator(
        task_id="publish",
        python_callable=approved,
        op_args=[generate.output, generate_again.output],
        trigger_rule="none_failed_min_one_success",
    )

    generate >> decide
    branch >> [publish, generate_again]
    generate_again >> approve_again >> publish
    # [END howto_approve_images]


example_approve_images()
