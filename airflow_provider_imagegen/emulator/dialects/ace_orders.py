"""Reads Ace Data Cloud submit bodies: refuses what the vendor refuses, ignores what the vendor ignores."""

from __future__ import annotations

from typing import Any

from airflow_provider_imagegen.emulator.calls import Call, Refusal, Route, text_of, texts_of
from airflow_provider_imagegen.emulator.models import (
    is_nano_banana,
    parse_size,
    pick_size,
    prompt_limit,
    size_for_ratio,
)
from airflow_provider_imagegen.emulator.painter import CONTENT_TYPES, Drawing
from airflow_provider_imagegen.emulator.sources import count_sources, salt_of
from airflow_provider_imagegen.emulator.studio import Order

MOST_IMAGES = 10
MOST_NATIVE_IMAGES = 4
MODEL_FOR_EDITS = "gpt-image-1"


def read_order(call: Call, weight: int | None) -> Order:
    """Return the order in a body of the OpenAI path.

    :param weight: when set, how many bytes each image has
    :raises Refusal: ``bad_request``, naming the field
    """
    body = call.body
    model = text_of(body, "model") or (MODEL_FOR_EDITS if call.route is Route.EDIT else "")
    prompt = _prompt(call, model)
    if not model:
        raise Refusal("bad_request", "model is required", param="model")
    if call.route is Route.EDIT:
        count_sources(call)
    n = whole(body, "n", 1, MOST_IMAGES, 1)
    first = Drawing(
        prompt=prompt,
        size=_size(body, prompt),
        format=_format(body, model),
        salt=salt_of(call),
        transparent=body.get("background") == "transparent",
        compression=whole(body, "output_compression", 0, 100, 90),
        weight=weight,
    )
    # Only dall-e-2 honours n; the others silently make one image.
    return Order("acedatacloud", model, prompt, body, first.series(n if model == "dall-e-2" else 1), call)


def read_native_order(call: Call, weight: int | None) -> Order:
    """Return the order in a body of ``/nano-banana/images``.

    :param weight: when set, how many bytes each image has
    :raises Refusal: ``bad_request``, naming the field
    """
    body = call.body
    model = text_of(body, "model") or "nano-banana"
    prompt = _prompt(call, model)
    action = body.get("action", "generate")
    if action not in ("generate", "edit"):
        raise Refusal("bad_request", "action is generate or edit", param="action")
    if action == "edit" and not texts_of(body, "image_urls"):
        raise Refusal("bad_request", "image_urls is required for an edit", param="image_urls")
    size = size_for_ratio(text_of(body, "aspect_ratio") or "1:1", text_of(body, "resolution") or "1K")
    if size is None:
        raise Refusal("bad_request", "aspect_ratio is like 16:9, resolution 1K, 2K or 4K", param="aspect_ratio")
    first = Drawing(prompt=prompt, size=size, salt=salt_of(call), weight=weight)
    count = whole(body, "count", 1, MOST_NATIVE_IMAGES, 1)
    return Order("nano_banana", model, prompt, body, first.series(count), call)


def _prompt(call: Call, model: str) -> str:
    prompt = call.prompt
    if not prompt.strip():
        raise Refusal("bad_request", "prompt is required", param="prompt")
    if len(prompt) > prompt_limit(model):
        raise Refusal("bad_request", f"prompt is longer than {prompt_limit(model)} characters", param="prompt")
    return prompt


def _size(body: dict[str, Any], prompt: str) -> tuple[int, int]:
    size = body.get("size") or "auto"
    if size == "auto":
        return pick_size(prompt)
    pixels = parse_size(size) if isinstance(size, str) else None
    if pixels is None:
        raise Refusal("bad_request", "size is WIDTHxHEIGHT or auto", param="size")
    return pixels


def _format(body: dict[str, Any], model: str) -> str:
    chosen = body.get("output_format") or "png"
    if is_nano_banana(model):
        return "png"
    if chosen not in CONTENT_TYPES:
        raise Refusal("bad_request", "output_format is png, jpeg or webp", param="output_format")
    return str(chosen)


def whole(body: dict[str, Any], name: str, least: int, most: int, default: int) -> int:
    """Return a whole number from a body, also from a form's text.

    :raises Refusal: ``bad_request`` when it is none, or out of bounds
    """
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Refusal("bad_request", f"{name} is a whole number from {least} to {most}", param=name)
    return value
