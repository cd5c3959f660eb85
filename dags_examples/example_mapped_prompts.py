"""Generate one image for every prompt that an earlier task returns; the UI lists the tasks by their prompts."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

SUBJECTS = [
    "lighthouse", "orchard", "night train", "glacier", "market", "observatory",
    "canal", "greenhouse", "desert road", "library", "harbour crane", "meadow",
]  # fmt: skip


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["imagegen", "example"],
)
def example_mapped_prompts():
    @task
    def prompts() -> list[str]:
        """Return the prompts."""
        return [f"A {subject} in soft morning light" for subject in SUBJECTS]

    # [START howto_operator_generate_image_mapped]
    generate = GenerateImageOperator.partial(
        task_id="generate",
        map_index_template="{{ task.prompt }}",
        model="gpt-image-1",
        size="1024x1024",
        s3_bucket="{{ var.value.get('imagegen_bucket', 'imagegen-demo') }}",
    ).expand(prompt=prompts())
    # [END howto_operator_generate_image_mapped]

    @task
    def count(manifests: list[dict]) -> int:
        """Count the landed images."""
        return sum(manifest["delivered"] for manifest in manifests)

    count(generate.output)


example_mapped_prompts()
