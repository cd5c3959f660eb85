"""Reuse one header image per month in a daily DAG: the first run of a month pays, all others reuse its image.

A backfill of a whole year pays for twelve images.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import dag

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator


@dag(
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_reuse_across_backfills():
    # [START howto_operator_generate_image_reuse]
    GenerateImageOperator(
        task_id="generate",
        prompt="A village street in {{ dag_run.run_after.strftime('%B') }}, as a wide header",
        model="gpt-image-1",
        size="1536x1024",
        reuse="always",
        s3_bucket="{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}",
    )
    # [END howto_operator_generate_image_reuse]


example_reuse_across_backfills()
