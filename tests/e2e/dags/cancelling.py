"""One image from a gateway that supports cancelling."""

from airflow.sdk import DAG

from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

with DAG("cancelling", schedule=None):
    GenerateImageOperator(
        task_id="generate",
        prompt="a lonely buoy {{ run_id }}",
        model="gpt-image-1",
        imagegen_conn_id="imagegen_cancelling",
        s3_bucket="{{ var.value.imagegen_bucket }}",
    )
