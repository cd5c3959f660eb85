"""Which models the catalog knows and which it does not, and what it refuses; for the tests of the catalog."""

from __future__ import annotations

from typing import Any

from airflow_provider_imagegen.catalog import check
from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.schemas import ImageRequest

GPT_IMAGES = [
    "gpt-image-1",
    "gpt-image-1-mini",
    "gpt-image-1.5",
    "gpt-image-2",
    "gpt-image-2.6-fast",
    "chatgpt-image-latest",
]
EVOLVING = [name for name in GPT_IMAGES if name != "gpt-image-1"]
DALL_ES = ["dall-e-2", "dall-e-3"]
NANO_BANANAS = ["nano-banana", "nano-banana-2", "nano-banana-pro"]
UNKNOWN = [None, "", "flux-1.1-pro", "gpt-image-10", "gpt-image-3", "dall-e-4", "my/own/", "gpt-image-1-turbo"]


def refusal_of(model: str | None, **fields: Any) -> InvalidRequest | None:
    try:
        check(ImageRequest(model=model, **{"prompt": "p", **fields}))
    except InvalidRequest as refusal:
        return refusal
    return None


def assert_refused(model: str | None, fields: dict[str, Any], field: str, words: str) -> None:
    refusal = refusal_of(model, **fields)
    assert refusal is not None
    assert refusal.field == field
    assert refusal.value == fields[field]
    assert f"{field}=" in str(refusal)
    assert words in refusal.allowed
    assert len(str(refusal).splitlines()) == 1
    assert refusal.billed == "no"
