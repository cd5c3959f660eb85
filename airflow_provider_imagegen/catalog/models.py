"""The parameters that each known model accepts, and one check that refuses known mistakes before anything is paid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

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
        """Return every demand that ``size`` does not meet, as text."""
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

# A model that will not change has no variants, only names for itself: gpt-image-1-turbo would be another one, and what
# is refused for gpt-image-1 may be right for it.
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
        """Return whether ``name``, without a vendor's prefix, is this model or a variant of it."""
        return re.fullmatch(re.escape(self.name) + self.suffix, name) is not None


_GPT_IMAGE: Mapping[str, Choice] = {
    "quality": ("auto", "high", "medium", "low"),
    "style": (),
    "background": ("transparent", "opaque", "auto"),
    "moderation": ("low", "auto"),
    "output_format": ("png", "jpeg", "webp"),
    "response_format": (),
}
_OLDER_GPT_IMAGE = {**_GPT_IMAGE, "size": ("auto", "1024x1024", "1536x1024", "1024x1536")}
_DALL_E: Mapping[str, Choice] = {
    "style": (),
    "background": (),
    "moderation": (),
    "output_format": (),
    "response_format": ("url", "b64_json"),
}

_dall_e = partial(KnownModel, streams=False, evolves=False, suffix=_DATED, shut_down="2026-05")
_gpt_image = partial(KnownModel, prompt_limit=32_000, images_per_call=10, streams=True)
# Through OpenAI's path these gateways take the parameters and do nothing with them, so users who switch from another
# model need not remove them.
_IGNORED = ("quality", "style", "background", "output_format", "response_format")
_nano_banana = partial(KnownModel, choices={}, ignored=_IGNORED)

MODELS: tuple[KnownModel, ...] = (
    _dall_e(
        name="dall-e-2",
        choices={**_DALL_E, "size": ("256x256", "512x512", "1024x1024"), "quality": ("standard",)},
        prompt_limit=1_000,
        images_per_call=10,
    ),
    _dall_e(
        name="dall-e-3",
        choices={
            **_DALL_E,
            "size": ("1024x1024", "1792x1024", "1024x1792"),
            "quality": ("hd", "standard"),
            "style": ("vivid", "natural"),
        },
        prompt_limit=4_000,
    ),
    _gpt_image(name="gpt-image-1", choices=_OLDER_GPT_IMAGE, evolves=False, suffix=_DATED, shut_down="2026-10"),
    _gpt_image(name="gpt-image-1-mini", choices=_OLDER_GPT_IMAGE),
    _gpt_image(name="gpt-image-1.5", choices=_OLDER_GPT_IMAGE),
    _gpt_image(
        name="gpt-image-2",
        choices={**_GPT_IMAGE, "size": SizeRule(step=16, longest=3840, ratio=3, fewest=655_360, most=8_294_400)},
        suffix=_VERSION,
    ),
    # Whichever model is the latest: its sizes are that model's.
    _gpt_image(name="chatgpt-image-latest", choices=_GPT_IMAGE),
    _nano_banana(name="nano-banana"),
    _nano_banana(name="nano-banana-2"),
    _nano_banana(name="nano-banana-pro"),
)
"""Sources: the parameter lists of OpenAI's, Ace Data Cloud's and APIGo's ``images/generations`` pages."""

_ANY_MODEL = KnownModel(name="an unknown model", choices={})

# The documented defaults ask for nothing: Ace Data Cloud's own sample sends them with dall-e-3.
_DEFAULTS = {"size": "auto", "quality": "auto", "background": "auto", "moderation": "auto", "output_format": "png"}
_FULL_QUALITY = 100
_FORMATS_WITHOUT_ALPHA = ("jpeg", "jpg")

FIELDS_WITH_CHOICES = ("size", "quality", "style", "background", "moderation", "output_format", "response_format")


def known_model(name: str | None) -> KnownModel | None:
    """Return what is known of a model by its name, also one with vendor prefix, date or variant; or ``None``."""
    last_part = (name or "").rpartition("/")[2]
    # The longest name wins: nano-banana-pro would pass for a variant of nano-banana.
    meant = (model for model in MODELS if model.is_meant_by(last_part))
    return max(meant, key=lambda model: len(model.name), default=None)


def images_per_call(model: str | None) -> int:
    """Return how many images one call makes at most at the vendor itself; 1 where that is not known."""
    return (known_model(model) or _ANY_MODEL).images_per_call


def check(request: ImageRequest) -> None:
    """Refuse what is known to be wrong for the request's model; unknown models and values pass."""
    model = known_model(request.model) or _ANY_MODEL
    refusal = next((refusal for refusal in _refusals(request, model) if refusal.field not in model.ignored), None)
    if refusal is not None:
        raise refusal


def _refusals(request: ImageRequest, model: KnownModel) -> Iterator[InvalidRequest]:
    yield from _wrong_prompt(request, model)
    yield from _wrong_choices(request, model)
    yield from _wrong_transparency(request)
    yield from _wrong_compression(request, model)
    yield from _wrong_streaming(request, model)


def _wrong_prompt(request: ImageRequest, model: KnownModel) -> Iterator[InvalidRequest]:
    length = len(request.prompt)
    if model.prompt_limit is not None and length > model.prompt_limit:
        words = f"{model.name} takes at most {model.prompt_limit} characters, not {length}"
        yield InvalidRequest("prompt", request.prompt, words)


def _wrong_choices(request: ImageRequest, model: KnownModel) -> Iterator[InvalidRequest]:
    for field in FIELDS_WITH_CHOICES:
        value = getattr(request, field)
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
    # A value that no model takes may be one that this model has learned since; a value of another model's is a mistake.
    if model.evolves and not any(value in other.choices.get(field, ()) for other in MODELS):
        return None
    return f"{model.name} takes {', '.join(allowed)}"


def _wrong_transparency(request: ImageRequest) -> Iterator[InvalidRequest]:
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
    given = {name: value for name in ("stream", "partial_images") if (value := getattr(request, name))}
    if model.streams is False:
        words = _only_for((other for other in MODELS if other.streams), model)
        yield from (InvalidRequest(name, value, words) for name, value in given.items())
    elif request.partial_images and not request.stream:
        yield InvalidRequest("partial_images", request.partial_images, "above 0 it needs stream=True")


def _only_for(takers: Iterator[KnownModel], model: KnownModel) -> str:
    return f"it is for {', '.join(taker.name for taker in takers)}; leave it out with {model.name}"
