"""A nightly product catalogue for the gallery's screenshots."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_imagegen.operators.batch import GenerateImageBatchOperator
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

WIDE, SQUARE, TALL = "1536x1024", "1024x1024", "1024x1536"
VIEWS = [
    ("coast/morning", "A quiet bay at first light, thin mist over the water", WIDE),
    ("coast/noon", "Dunes under a high sun, one sail far out", SQUARE),
    ("coast/evening", "The last ferry on a copper sea", WIDE),
    ("coast/night", "A lighthouse beam over dark water", TALL),
    ("hills/spring", "Rolling hills after rain, soft greens", WIDE),
    ("hills/summer", "Barley fields in the heat, long shadows", SQUARE),
    ("hills/autumn", "A valley of rust and gold", WIDE),
    ("hills/winter", "Snow on quiet ridges, pale sky", SQUARE),
    ("city/dawn", "Rooftops and chimneys before the town wakes", SQUARE),
    ("city/rain", "A wet boulevard, lamps reflected", WIDE),
    ("city/arches", "A row of arches in afternoon light", TALL),
    ("city/blue-hour", "Windows lit in the blue hour", WIDE),
    ("desert/dunes", "Dunes like folded paper", WIDE),
    ("desert/stars", "A desert camp under more stars than one can count", SQUARE),
    ("desert/road", "A straight road to a flat horizon", WIDE),
    ("north/fjord", "A fjord without wind", SQUARE),
    ("north/aurora", "Green light over a frozen lake", WIDE),
    ("north/cabin", "A red cabin among birches", TALL),
    ("south/terrace", "A terrace of lemon trees above the sea", WIDE),
    ("south/market", "A covered market at closing time", SQUARE),
    ("islands/ferry", "Small islands, one behind the other", WIDE),
    ("islands/harbour", "Fishing boats asleep in a round harbour", SQUARE),
]
FAILING = [
    ("city/crowd", "A crowd at the gates", SQUARE),
    ("south/feast", "A feast under lanterns", WIDE),
]
ROWS = [{"key": key, "prompt": prompt, "size": size} for key, prompt, size in [*VIEWS[:5], *FAILING, *VIEWS[5:]]]

with DAG(
    "spring_catalogue",
    schedule=None,
    default_args={"model": "gpt-image-1", "s3_bucket": "{{ var.value.imagegen_bucket }}"},
):
    GenerateImageBatchOperator(task_id="catalogue", requests=ROWS, on_partial="accept", max_in_flight=8)

    GenerateImageOperator(
        task_id="cover", prompt="The cover: a wide spring sky over a patchwork of fields", size=WIDE, n=2
    )
