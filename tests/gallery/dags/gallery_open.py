"""Tasks to show in the gallery: single images, mapped ones, a batch with refused rows, failed tasks."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

REFUSED = "[[moderation]]"
ASKED = {"s3_bucket": "{{ var.value.imagegen_bucket }}", "size": "1024x1024", "model": "gpt-image-1"}


def stop(context):
    raise RuntimeError("on purpose")


with DAG("gallery_open", schedule=None, default_args=ASKED) as dag:
    GenerateImageOperator(task_id="pair", prompt='Two <b>boats</b> & a "buoy"', n=2)

    GenerateImageOperator.partial(task_id="mapped").expand(prompt=["A stone bridge", "A wooden bridge"])

    GenerateImageBatchOperator(
        task_id="batch",
        requests=[
            {"key": "poplars/one", "prompt": "A row of poplars", "model": "nano-banana"},
            {"key": "refused", "prompt": f"An image that is refused {REFUSED}"},
            {"key": "wide", "prompt": "A wide plain", "size": "1536x1024", "n": 2},
        ],
        on_partial="accept",
    )

    GenerateImageOperator(task_id="fails", prompt=f"A task that is refused {REFUSED}")

    GenerateImageBatchOperator(
        task_id="half",
        requests=[{"key": "there", "prompt": "A mill"}, {"key": "missing", "prompt": f"A mill {REFUSED}"}],
    )

    GenerateImageOperator(task_id="silent", prompt="A task that somebody stops", pre_execute=stop)

    @task
    def tells(*, ti):
        """Fail as a task does that says why."""
        failure = {"index": 0, "code": "expired", "message": "The result was gone", "billed": "yes"}
        ti.xcom_push("failure", {"version": 1, "gateway": "ace", "model": "m", "images": [], "failures": [failure]})
        raise RuntimeError("on purpose")

    @task
    def something_else() -> dict[str, str]:
        return {"version": "1", "images": "none of ours"}

    [tells(), something_else()]
