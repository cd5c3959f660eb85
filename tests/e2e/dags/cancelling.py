"""One image from a gateway that supports cancelling."""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

# What is held must outlast whatever else a busy machine does meanwhile.
LONG = timedelta(hours=12)

with DAG("cancelling", schedule=None):
    GenerateImageOperator(
        task_id="generate",
        prompt="a lonely buoy {{ run_id }}",
        model="gpt-image-1",
        imagegen_conn_id="imagegen_cancelling",
        s3_bucket="{{ var.value.imagegen_bucket }}",
        timeout=LONG,
    )
