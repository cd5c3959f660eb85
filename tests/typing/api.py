"""The public API as DAG authors and scripts use it: checked by mypy, strictly, and never run."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from airflow.sdk import DAG, Asset, task

from airflow_provider_imagegen.exceptions import ImageGenError, ModerationBlocked
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import EditImageOperator, GenerateImageOperator
from airflow_provider_imagegen.operators.landing import LandImagesOperator
from airflow_provider_imagegen.schemas import ImageOutput, ImageTask, Manifest
from airflow_provider_imagegen.sensors.imagegen import ImageTaskSensor


def dag() -> DAG:
    with DAG("typed", schedule=None) as built:
        generated = GenerateImageOperator(
            task_id="generate",
            prompt="A lighthouse",
            model="gpt-image-1",
            n=2,
            s3_bucket="images",
            tag_set={"team": "web"},
            budget="2.50",
            outlets=[Asset("lighthouse")],
            retries=2,
            retry_delay=timedelta(minutes=1),
        )
        EditImageOperator(
            task_id="edit", prompt="At night", images=["s3://images/a.png"], s3_bucket="images", on_moderation="skip"
        )
        GenerateImageBatchOperator(
            task_id="batch",
            requests=[{"prompt": "A kite", "key": "kite"}, "An owl"],
            s3_bucket="images",
            budget=Decimal(1),
        )
        submitted = GenerateImageOperator(task_id="submit", prompt="A raft", s3_bucket="images", wait=False)
        LandImagesOperator(task_id="land", submitted=submitted.output, s3_bucket="images")
        ImageTaskSensor(task_id="watch", task_ids=["a", "b"], deferrable=True)
        ImageTaskSensor(task_id="watch_more", task_ids=submitted.output)
        GenerateImageBatchOperator(task_id="rows", requests=generated.output, s3_bucket="images")
        generated >> submitted

        @task.generate_image(model="gpt-image-1", s3_bucket="images", poll_interval=2.0)
        def header(text: str, ds: str | None = None) -> dict[str, object]:
            return {"prompt": f"A header for {text} on {ds}", "n": 2, "extra": {"quality": "high"}}

        header("a ferry") >> submitted
    return built


def script() -> list[bytes | None]:
    hook = ImageGenHook("imagegen_default")
    try:
        outputs: list[ImageOutput] = hook.generate(prompt="A lighthouse", model="gpt-image-1", n=2)
    except ModerationBlocked as error:
        print(error.billed, error.code)
        return []
    except ImageGenError as error:
        raise SystemExit(str(error)) from error
    return [output.content for output in outputs]


async def loop() -> ImageTask:
    hook = ImageGenHook()
    submitted: ImageTask = await hook.asubmit(prompt="A lighthouse")
    return await hook.await_task(submitted.task_id or "", timeout=600)


def read(xcom: dict[str, object]) -> list[str]:
    manifest = Manifest.model_validate(xcom)
    return [image.uri for image in manifest.images]
