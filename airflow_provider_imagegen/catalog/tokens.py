"""Tokens of image models: what a response says was used, and what an image takes as far as that is published.

Source of the table: OpenAI's guide *Image generation*, section *Cost and latency*. It holds for what the models
generate, not for images that are sent along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_imagegen.catalog import models as catalog
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest

TOKENS_PER_PREVIEW = 100

MOST_TOKENS = 10**12
"""Counts come from gateways: an absurd one is no count, and would make every sum absurd."""

_SQUARE, _PORTRAIT, _LANDSCAPE = "1024x1024", "1024x1536", "1536x1024"
_OUTPUT = {
    "low": {_SQUARE: 272, _PORTRAIT: 408, _LANDSCAPE: 400},
    "medium": {_SQUARE: 1056, _PORTRAIT: 1584, _LANDSCAPE: 1568},
    "high": {_SQUARE: 4160, _PORTRAIT: 6240, _LANDSCAPE: 6208},
}
# Not gpt-image-1-mini: its published prices per image are above what these counts come to.
_MODELS_OF_TABLE = frozenset({"gpt-image-1", "gpt-image-1.5"})


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Token counts of one response, by what they are billed as."""

    input_text: int = 0
    input_image: int = 0
    output_image: int = 0
    output_text: int = 0


def tokens_of(usage: Mapping[str, object]) -> Tokens | None:
    """Return the tokens of ``usage`` in OpenAI's shape, or ``None`` if it does not report input and output."""
    given, made = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    if given is None or made is None:
        return None
    image = _count(usage.get("input_tokens_details"), "image_tokens") or 0
    text = _count(usage.get("output_tokens_details"), "text_tokens") or 0
    # A part cannot be more than the whole; a negative rest would lower the cost.
    image, text = min(image, given), min(text, made)
    return Tokens(input_text=given - image, input_image=image, output_image=made - text, output_text=text)


def most_tokens(request: ImageRequest) -> Tokens | None:
    """Return the tokens that a request takes at most, or ``None`` where that is not published.

    A byte of the prompt counts as a token, which it never exceeds. What the model may choose counts as the dearest.
    """
    output = _most_output(request)
    # How many tokens the images of an edit take is not published, and a guess must not pass a budget.
    if output is None or isinstance(request, EditRequest):
        return None
    per_image = output + TOKENS_PER_PREVIEW * (request.partial_images or 0)
    return Tokens(input_text=len(request.prompt.encode()), output_image=per_image * request.n)


def _most_output(request: ImageRequest) -> int | None:
    model = catalog.known_model(request.model)
    if model is None or model.name not in _MODELS_OF_TABLE:
        return None
    quality, size = chosen(request.quality), chosen(request.size)
    rows = list(_OUTPUT.values()) if quality is None else [_OUTPUT.get(quality, {})]
    counts = [count for row in rows for name, count in row.items() if size in (None, name)]
    return max(counts, default=None)


def chosen(value: str | None) -> str | None:
    """Return what was asked for; ``None`` where the choice is the model's."""
    return None if value in (None, "", "auto") else value


def _count(document: object, name: str) -> int | None:
    value = document.get(name) if isinstance(document, Mapping) else None
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None
