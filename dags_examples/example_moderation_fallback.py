"""Generate a fallback image if the gateway refuses the prompt, which is not billed.

Trigger the DAG with your own prompt; the emulator refuses prompts that contain ``[[moderation]]``.
"""

from __future__ import annotations

import pendulum
from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.sdk import Param, dag

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
    publish = S3CopyObjectOperator(
        task_id="publish",
        source_bucket_key="{{ (ti.xcom_pull('as_asked') or ti.xcom_pull('fallback'))['images'][0]['uri'] }}",
        dest_bucket_name=BUCKET,
        dest_bucket_key="published/{{ run_id }}.png",
        trigger_rule="none_failed_min_one_success",
    )

    as_asked >> fallback
    [as_asked, fallback] >> publish
    # [END howto_operator_generate_image_moderation]


example_moderation_fallback()
