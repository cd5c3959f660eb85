"""Known and unknown models, and refused values; for the tests of the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_imagegen.catalog.models import check
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


Case = tuple[str | None, dict[str, Any], str, str]
"""Model, fields of the request, the field that is refused, and words of what is allowed instead."""


def refusal_of(model: str | None, **fields: Any) -> InvalidRequest | None:
    try:
        check(ImageRequest(model=model, **{"prompt": "p", **fields}))
    except InvalidRequest as refusal:
        return refusal
    return None


def not_refused_as_expected(cases: Iterable[Case]) -> list[tuple[Case, InvalidRequest | None]]:
    """Return the cases that pass or are refused otherwise, each with what really happens."""
    results = ((case, refusal_of(case[0], **case[1])) for case in cases)
    return [(case, refusal) for case, refusal in results if not _is_refused_as_expected(refusal, *case[1:])]


def _is_refused_as_expected(refusal: InvalidRequest | None, fields: dict[str, Any], field: str, words: str) -> bool:
    return refusal is not None and (
        refusal.field == field
        and refusal.value == fields[field]
        and f"{field}=" in str(refusal)
        and words in refusal.allowed
        and len(str(refusal).splitlines()) == 1
        and refusal.billed == "no"
    )


def refused(models: Iterable[str | None], *requests: dict[str, Any]) -> list[tuple[str | None, InvalidRequest]]:
    """Return each refusal, with its model, of requests to models; without requests, of one with a prompt only."""
    results = ((model, refusal_of(model, **fields)) for model in models for fields in requests or ({},))
    return [(model, refusal) for model, refusal in results if refusal is not None]
