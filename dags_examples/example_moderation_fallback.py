"""A prompt that the gateway may refuse: when it does, which costs nothing, a harmless one is drawn in its place.

Trigger it with a prompt of your own; the emulator refuses those that contain ``[[moderation]]``.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag, task

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

BUCKET = "{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}"


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
    params={"prompt": Param("Two knights crossing swords at dusk", type="string", minLength=1)},
)
def example_moderation_fallback():
    # [START howto_operator_generate_image_moderation]
    as_asked = GenerateImageOperator(
        task_id="as_asked",
        prompt="{{ params.prompt }}",
        model="gpt-image-1",
        on_moderation="skip",
        s3_bucket=BUCKET,
    )
    fallback = GenerateImageOperator(
        task_id="fallback",
        prompt="A plain pattern of leaves",
        model="gpt-image-1",
        trigger_rule="all_skipped",
        s3_bucket=BUCKET,
    )
    # [END howto_operator_generate_image_moderation]

    @task(trigger_rule="none_failed_min_one_success")
    def publish(drawn: dict | None, instead: dict | None) -> list[str]:
        """Hand the addresses of whatever was drawn on."""
        return [image["uri"] for image in (drawn or instead)["images"]]

    as_asked >> fallback
    publish(as_asked.output, fallback.output)


example_moderation_fallback()
