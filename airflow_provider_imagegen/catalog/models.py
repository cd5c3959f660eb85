"""What each known model accepts: data, and one check that refuses what is known to be wrong before it is paid.

The operators and the hook call :func:`check`, gateways and the engine ask :func:`images_per_call`. Run as a
program it prints the table of ``docs/models.md``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.schemas import ImageRequest


@dataclass(frozen=True)
class SizeRule:
    """Sizes that a model takes by rule instead of by list.

    :param step: Both edges are multiples of it, in pixels.
    :param longest: The longer edge has at most so many pixels.
    :param ratio: The longer edge is at most so many times the shorter one.
    :param fewest: Pixels in all, at least.
    :param most: Pixels in all, at most.
    """

    step: int
    longest: int
    ratio: int
    fewest: int
    most: int

    def __str__(self) -> str:
        return f"WIDTHxHEIGHT with {', '.join(self._demands())}"

    def __contains__(self, size: object) -> bool:
        return isinstance(size, str) and not self.broken_by(size)

    def broken_by(self, size: str) -> list[str]:
        """Return every demand that ``size`` does not meet, in words."""
        edges = re.fullmatch(r"([1-9][0-9]{0,8})x([1-9][0-9]{0,8})", size)
        if edges is None:
            return ["WIDTHxHEIGHT in pixels, or auto"]
        width, height = int(edges[1]), int(edges[2])
        longer, shorter = max(width, height), min(width, height)
        met = (
            width % self.step == height % self.step == 0,
            longer <= self.longest,
            longer <= self.ratio * shorter,
            self.fewest <= width * height <= self.most,
        )
        return [demand for demand, holds in zip(self._demands(), met, strict=True) if not holds]

    def _demands(self) -> tuple[str, str, str, str]:
        return (
            f"both edges multiples of {self.step}",
            f"no edge above {self.longest} pixels",
            f"a ratio within 1:{self.ratio} to {self.ratio}:1",
            f"{self.fewest} to {self.most} pixels in all",
        )


Choice = tuple[str, ...] | SizeRule

# A model that will not change has no variants, only names for itself: gpt-image-1-turbo would be another one.
_DATED = r"(?:[-@:](?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4,8}|latest|preview))?"
_VARIANT = r"(?:[-@:].*)?"
_VERSION = r"(?:\.[0-9]+)*" + _VARIANT


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """One model, or a family that follows the same rules.

    :param name: What its names begin with, after the last slash.
    :param choices: Parameter → values it takes; empty: it does not take the parameter; absent: not known.
    :param ignored: Parameters that it takes without effect; nothing is refused for them.
    :param prompt_limit: Characters of a prompt, at most.
    :param images_per_call: Images that one call makes at most at the vendor itself.
    :param streams: Whether it streams; ``None`` where that is not known.
    :param evolves: Whether it may learn values that are not listed here.
    :param suffix: Pattern of what else its names may end with.
    :param shut_down: Month in which the vendor itself shut it down (ISO 8601); gateways may serve it longer.
    """

    name: str
    choices: Mapping[str, Choice]
    ignored: tuple[str, ...] = ()
    prompt_limit: int | None = None
    images_per_call: int = 1
    streams: bool | None = None
    evolves: bool = True
    suffix: str = _VARIANT
    shut_down: str | None = None

    def is_meant_by(self, name: str) -> bool:
        """Tell whether ``name``, without a vendor's prefix, is this model or a variant of it."""
        return re.fullmatch(re.escape(self.name) + self.suffix, name) is not None


_OLDER_GPT_SIZES = ("auto", "1024x1024", "1536x1024", "1024x1536")
_GPT_IMAGE: Mapping[str, Choice] = {
    "quality": ("auto", "high", "medium", "low"),
    "style": (),
    "background": ("transparent", "opaque", "auto"),
    "moderation": ("low", "auto"),
    "output_format": ("png", "jpeg", "webp"),
    "response_format": (),
}
_DALL_E: Mapping[str, Choice] = {
    "style": (),
    "background": (),
    "moderation": (),
    "output_format": (),
    "response_format": ("url", "b64_json"),
}
_IGNORED_BY_NANO_BANANA = ("quality", "style", "background", "output_format", "response_format")

MODELS: tuple[KnownModel, ...] = (
    KnownModel(
        name="dall-e-2",
        choices={**_DALL_E, "size": ("256x256", "512x512", "1024x1024"), "quality": ("standard",)},
        prompt_limit=1_000,
        images_per_call=10,
        streams=False,
        evolves=False,
        suffix=_DATED,
        shut_down="2026-05",
    ),
    KnownModel(
        name="dall-e-3",
        choices={
            **_DALL_E,
            "size": ("1024x1024", "1792x1024", "1024x1792"),
            "quality": ("hd", "standard"),
            "style": ("vivid", "natural"),
        },
        prompt_limit=4_000,
        streams=False,
        evolves=False,
        suffix=_DATED,
        shut_down="2026-05",
    ),
    KnownModel(
        name="gpt-image-1",
        choices={**_GPT_IMAGE, "size": _OLDER_GPT_SIZES},
        prompt_limit=32_000,
        images_per_call=10,
        streams=True,
        evolves=False,
        suffix=_DATED,
        shut_down="2026-10",
    ),
    KnownModel(
        name="gpt-image-1-mini",
        choices={**_GPT_IMAGE, "size": _OLDER_GPT_SIZES},
        prompt_limit=32_000,
        images_per_call=10,
        streams=True,
    ),
    KnownModel(
        name="gpt-image-1.5",
        choices={**_GPT_IMAGE, "size": _OLDER_GPT_SIZES},
        prompt_limit=32_000,
        images_per_call=10,
        streams=True,
    ),
    KnownModel(
        name="gpt-image-2",
        choices={**_GPT_IMAGE, "size": SizeRule(step=16, longest=3840, ratio=3, fewest=655_360, most=8_294_400)},
        prompt_limit=32_000,
        images_per_call=10,
        streams=True,
        suffix=_VERSION,
    ),
    # Whichever model is the latest: its sizes are that model's.
    KnownModel(
        name="chatgpt-image-latest",
        choices=_GPT_IMAGE,
        prompt_limit=32_000,
        images_per_call=10,
        streams=True,
    ),
    KnownModel(name="nano-banana", choices={}, ignored=_IGNORED_BY_NANO_BANANA),
    KnownModel(name="nano-banana-2", choices={}, ignored=_IGNORED_BY_NANO_BANANA),
    KnownModel(name="nano-banana-pro", choices={}, ignored=_IGNORED_BY_NANO_BANANA),
)
"""Sources: the parameter lists of OpenAI's, Ace Data Cloud's and APIGo's ``images/generations`` pages."""

_ANY_MODEL = KnownModel(name="an unknown model", choices={})

# The documented defaults ask for nothing: Ace Data Cloud's own sample sends them with dall-e-3.
_DEFAULTS = {"size": "auto", "quality": "auto", "background": "auto", "moderation": "auto", "output_format": "png"}
_FULL_QUALITY = 100
_FORMATS_WITHOUT_ALPHA = ("jpeg", "jpg")


def known_model(name: str | None) -> KnownModel | None:
    """Return what is known of a model, or ``None``.

    :param name: As users write it, with vendor prefixes (``openai/…``), dates and variants.
    """
    last_part = (name or "").rpartition("/")[2]
    meant = (model for model in MODELS if model.is_meant_by(last_part))
    return max(meant, key=lambda model: len(model.name), default=None)


def images_per_call(model: str | None) -> int:
    """Return how many images one call makes at most at the vendor itself; 1 where that is not known.

    :param model: Name of the model.
    """
    return (known_model(model) or _ANY_MODEL).images_per_call


def shut_down(model: str | None) -> str | None:
    """Return the month (``2026-05``) in which the vendor itself shut the model down, or ``None``.

    :param model: Name of the model.
    """
    return (known_model(model) or _ANY_MODEL).shut_down


def check(request: ImageRequest) -> None:
    """Refuse what is known to be wrong for the request's model; unknown models and values pass.

    :param request: What would be sent.
    :raises InvalidRequest: Naming the first field that is wrong, its value and what is allowed.
    """
    model = known_model(request.model) or _ANY_MODEL
    refusal = next((refusal for refusal in _refusals(request, model) if refusal.field not in model.ignored), None)
    if refusal is not None:
        raise refusal


def _refusals(request: ImageRequest, model: KnownModel) -> Iterator[InvalidRequest]:
    yield from _wrong_prompt(request, model)
    yield from _wrong_choices(request, model)
    yield from _wrong_transparency(request, model)
    yield from _wrong_compression(request, model)
    yield from _wrong_streaming(request, model)


def _wrong_prompt(request: ImageRequest, model: KnownModel) -> Iterator[InvalidRequest]:
    length = len(request.prompt)
    if model.prompt_limit is not None and length > model.prompt_limit:
        words = f"{model.name} takes at most {model.prompt_limit} characters, not {length}"
        yield InvalidRequest("prompt", request.prompt, words)


def _wrong_choices(request: ImageRequest, model: KnownModel) -> Iterator[InvalidRequest]:
    asked = {
        "size": request.size,
        "quality": request.quality,
        "style": request.style,
        "background": request.background,
        "moderation": request.moderation,
        "output_format": request.output_format,
        "response_format": request.response_format,
    }
    for field, value in asked.items():
        words = None if value is None else _words_against(model, field, value)
        if words is not None:
            yield InvalidRequest(field, value, words)


def _words_against(model: KnownModel, field: str, value: str) -> str | None:
    """Return what is allowed instead of ``value``, or ``None`` if nothing is known against it."""
    allowed = model.choices.get(field)
    if allowed is None or value in allowed or value == _DEFAULTS.get(field):
        return None
    if isinstance(allowed, SizeRule):
        return f"{model.name} wants {', '.join(allowed.broken_by(value))}"
    if not allowed:
        return _only_for((other for other in MODELS if other.choices.get(field)), model)
    if model.evolves and not any(value in other.choices.get(field, ()) for other in MODELS):
        return None
    return f"{model.name} takes {', '.join(allowed)}"


def _wrong_transparency(request: ImageRequest, model: KnownModel) -> Iterator[InvalidRequest]:
    output_format = request.output_format
    if request.background == "transparent" and output_format in _FORMATS_WITHOUT_ALPHA:
        yield InvalidRequest("background", "transparent", f"it needs output_format png or webp, not {output_format}")


def _wrong_compression(request: ImageRequest, model: KnownModel) -> Iterator[InvalidRequest]:
    compression, formats = request.output_compression, model.choices.get("output_format")
    if compression in (None, _FULL_QUALITY) or formats is None:
        return
    if not formats:
        takers = (other for other in MODELS if other.choices.get("output_format"))
        yield InvalidRequest("output_compression", compression, _only_for(takers, model))
    elif request.output_format in (None, "png"):
        words = "it needs output_format jpeg or webp; png, which is the default, takes only 100"
        yield InvalidRequest("output_compression", compression, words)


def _wrong_streaming(request: ImageRequest, model: KnownModel) -> Iterator[InvalidRequest]:
    takers = [other for other in MODELS if other.streams]
    if request.stream and model.streams is False:
        yield InvalidRequest("stream", True, _only_for(takers, model))
    if not request.partial_images:
        return
    if model.streams is False:
        yield InvalidRequest("partial_images", request.partial_images, _only_for(takers, model))
    elif not request.stream:
        yield InvalidRequest("partial_images", request.partial_images, "above 0 it needs stream=True")


def _only_for(takers: Iterator[KnownModel] | list[KnownModel], model: KnownModel) -> str:
    return f"it is for {', '.join(taker.name for taker in takers)}; leave it out with {model.name}"


_COLUMNS = {
    "Sizes": "size",
    "Quality": "quality",
    "Style": "style",
    "Background": "background",
    "Moderation": "moderation",
    "Output format": "output_format",
    "Response format": "response_format",
}


def table() -> str:
    """Return all known models and what they take, as a Markdown table."""
    head = ("Model", "Prompt", *_COLUMNS, "Streams", "Images per call", "Shut down at the vendor")
    rows = [head, ("---",) * len(head), *(_row(model) for model in MODELS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(model: KnownModel) -> tuple[str, ...]:
    return (
        f"`{model.name}`" + (", `gpt-image-2.x-…`" if model.suffix == _VERSION else ""),
        "not known" if model.prompt_limit is None else f"{model.prompt_limit} characters",
        *(_cell(model, field) for field in _COLUMNS.values()),
        {True: "yes", False: "no", None: "not known"}[model.streams],
        str(model.images_per_call),
        model.shut_down or "–",
    )


def _cell(model: KnownModel, field: str) -> str:
    if field in model.ignored:
        return "ignored"
    allowed = model.choices.get(field)
    if allowed is None:
        return "not known"
    return f"auto, or {allowed}" if isinstance(allowed, SizeRule) else ", ".join(allowed) or "–"


if __name__ == "__main__":
    sys.stdout.write(table())
