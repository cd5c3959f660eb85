"""What OpenAI accepts for which model, as data, and the check that words a refusal as OpenAI does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from airflow_provider_imagegen.emulator.calls import Refusal
from airflow_provider_imagegen.emulator.models import is_dall_e, parse_size, prompt_limit

MOST_PIXELS = 8_294_400
LEAST_PIXELS = 655_360
LONGEST_EDGE = 3_840
EDGE_STEP = 16
WIDEST_RATIO = 3

OTHER_VENDORS = ("async", "callback_url", "trace_id", "action", "count")
"""Parameters of other gateways, which OpenAI does not know."""


@dataclass(frozen=True)
class Rules:
    """One family of models. Empty tuples stand for *anything goes*.

    :param refused: parameters that the family does not take
    """

    sizes: tuple[str, ...] = ()
    qualities: tuple[str, ...] = ()
    most_images: int = 10
    refused: tuple[str, ...] = ()
    free_sizes: bool = False


GPT_QUALITIES = ("auto", "high", "medium", "low")
GPT_ONLY = ("background", "moderation", "output_format", "output_compression", "partial_images", "stream")
RULES: dict[str, Rules] = {
    "dall-e-2": Rules(("256x256", "512x512", "1024x1024"), ("standard",), 10, ("style", *GPT_ONLY)),
    "dall-e-3": Rules(("1024x1024", "1792x1024", "1024x1792"), ("standard", "hd", "auto"), 1, GPT_ONLY),
    "gpt-image-1": Rules(
        ("auto", "1024x1024", "1536x1024", "1024x1536"), GPT_QUALITIES, 10, ("response_format", "style")
    ),
    "gpt-image-2": Rules((), (*GPT_QUALITIES, "xhigh", "max"), 10, ("response_format", "style"), free_sizes=True),
}


def rules_for(model: str) -> Rules:
    """Return a model's rules: its own, or those of the family whose name it begins with."""
    family = max((name for name in RULES if model.startswith(name)), key=len, default=None)
    if family is not None:
        return RULES[family]
    refused = () if is_dall_e(model) else ("response_format",)
    return Rules(refused=refused)


def check(model: str, body: dict[str, Any]) -> None:
    """Refuse what OpenAI would refuse.

    :raises Refusal: with OpenAI's own error code, naming the parameter
    """
    complaint = next(_complaints(model, rules_for(model), body), None)
    if complaint:
        raise complaint


def _complaints(model: str, rules: Rules, body: dict[str, Any]) -> Iterator[Refusal]:
    prompt, limit = body.get("prompt"), prompt_limit(model)
    if not isinstance(prompt, str) or not prompt:
        yield _complaint("missing_required_parameter", "prompt", "Missing required parameter: 'prompt'.")
    elif len(prompt) > limit:
        yield _complaint("string_above_max_length", "prompt", f"Invalid 'prompt': at most {limit} characters.")
    for name in (*rules.refused, *OTHER_VENDORS):
        if body.get(name) is not None:
            yield _complaint("unknown_parameter", name, f"Unknown parameter: '{name}'.")
    yield from _wrong_size(rules, body)
    if rules.qualities and body.get("quality", rules.qualities[0]) not in rules.qualities:
        yield _invalid("quality", body["quality"], ", ".join(rules.qualities))
    yield from _wrong_choice(body, "style", ("vivid", "natural"))
    yield from _wrong_choice(body, "response_format", ("url", "b64_json"))
    yield from _wrong_choice(body, "background", ("transparent", "opaque", "auto"))
    yield from _wrong_choice(body, "moderation", ("low", "auto"))
    yield from _wrong_number(body, "n", 1, rules.most_images)
    yield from _wrong_number(body, "partial_images", 0, 3)
    yield from _wrong_number(body, "output_compression", 0, 100)
    yield from _wrong_format(body)


def _wrong_size(rules: Rules, body: dict[str, Any]) -> Iterator[Refusal]:
    size = body.get("size")
    if size is None or (size == "auto" and (rules.free_sizes or not rules.sizes)):
        return
    pixels = parse_size(size) if isinstance(size, str) else None
    if rules.sizes and size not in rules.sizes:
        yield _invalid("size", size, ", ".join(rules.sizes))
    elif pixels is None and size != "auto":
        yield _invalid("size", size, "WIDTHxHEIGHT or auto")
    elif rules.free_sizes and pixels is not None and not _fits(*pixels):
        yield _invalid("size", size, "multiples of 16, edges up to 3840, ratio up to 3:1, 655360 to 8294400 pixels")


def _fits(width: int, height: int) -> bool:
    """Say whether a size follows the rule of the gpt-image-2 family."""
    return (
        width % EDGE_STEP == height % EDGE_STEP == 0
        and max(width, height) <= LONGEST_EDGE
        and max(width, height) <= WIDEST_RATIO * min(width, height)
        and LEAST_PIXELS <= width * height <= MOST_PIXELS
    )


def _wrong_choice(body: dict[str, Any], name: str, choices: tuple[str, ...]) -> Iterator[Refusal]:
    if body.get(name) is not None and body[name] not in choices:
        yield _invalid(name, body[name], ", ".join(choices))


def _wrong_number(body: dict[str, Any], name: str, least: int, most: int) -> Iterator[Refusal]:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        yield _complaint("invalid_type", name, f"Invalid type for '{name}': expected an integer.")
    elif not least <= value <= most:
        yield _invalid(name, value, f"{least} to {most}")


def _wrong_format(body: dict[str, Any]) -> Iterator[Refusal]:
    chosen = body.get("output_format") or "png"
    yield from _wrong_choice(body, "output_format", ("png", "jpeg", "webp"))
    if chosen == "jpeg" and body.get("background") == "transparent":
        yield _invalid("background", "transparent", "opaque or auto for jpeg")
    if chosen == "png" and body.get("output_compression", 100) != 100:
        yield _invalid("output_compression", body["output_compression"], "100 for png")


def _invalid(name: str, value: object, allowed: str) -> Refusal:
    return _complaint("invalid_value", name, f"Invalid value: '{value}' for '{name}'. Supported: {allowed}.")


def _complaint(code: str, param: str, message: str) -> Refusal:
    return Refusal(code, message, status=400, param=param)
