"""One task per synchronous gateway."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_imagegen.operators.imagegen import EditImageOperator, GenerateImageOperator

BUCKET = "{{ var.value.imagegen_bucket }}"

with DAG("gateways", schedule=None):
    for gateway in ("openai", "apigo"):
        drawn = GenerateImageOperator(
            task_id=gateway,
            imagegen_conn_id=f"imagegen_{gateway}",
            prompt="Four lighthouses, side by side",
            model="dall-e-3",
            n=4,
            s3_bucket=BUCKET,
            s3_key=f"gateways/{gateway}",
        )
        edited = EditImageOperator(
            task_id=f"{gateway}_edit",
            imagegen_conn_id=f"imagegen_{gateway}",
            prompt="One of them at night",
            model="gpt-image-2",
            images=[f"gateways/{gateway}/0.png"],
            s3_bucket=BUCKET,
            s3_key=f"gateways/{gateway}_edit",
        )
        drawn >> edited
    GenerateImageOperator(
        task_id="nano_banana",
        imagegen_conn_id="imagegen_nano_banana",
        prompt="A lighthouse made of bananas",
        model="nano-banana-pro",
        extra={"aspect_ratio": "16:9"},
        s3_bucket=BUCKET,
        s3_key="gateways/nano_banana",
    )
