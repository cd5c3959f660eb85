"""Prices as a connection's extra ``prices`` states them: per image, by size and quality, or per million tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_imagegen.catalog.tokens import Tokens
from airflow_provider_imagegen.money import amount_of

ANY_MODEL = "*"
"""Name under which the price of every model stands that has none of its own."""
DEFAULT = "default"
PER_MILLION = Decimal(1_000_000)

_SIZE = re.compile(r"\d{1,5}x\d{1,5}|\d{1,2}K", re.IGNORECASE)
_WORD = re.compile(r"[\w.-]{1,40}")
_KINDS = "per_image, or input_tokens and output_tokens (and input_image_tokens)"


@dataclass(frozen=True)
class Case:
    """Size and quality that a price per image is for; ``None`` for any other than those that are named.

    :param size: Size of the image, in lower case.
    :param quality: The model's word for its quality, in lower case.
    """

    size: str | None = None
    quality: str | None = None


@dataclass(frozen=True)
class PerImage:
    """A price per image.

    :param entries: Prices by case; of several that fit, the more exact one holds, and size goes before quality.
    """

    entries: tuple[tuple[Case, Decimal], ...]

    def candidates(self, size: str | None, quality: str | None) -> frozenset[Decimal | None]:
        """Return what an image may cost; ``None`` among them where it may be one that has no price.

        :param size: Its size; ``None`` where the model chooses.
        :param quality: Its quality; ``None`` where the model chooses.
        """
        prices = dict(self.entries)
        sizes = {size.lower()} if size else {case.size for case in prices} | {None}
        qualities = {quality.lower()} if quality else {case.quality for case in prices} | {None}
        return frozenset(_most_exact(prices, one, other) for one in sizes for other in qualities)


@dataclass(frozen=True)
class PerToken:
    """Prices per million tokens.

    :param input_image_tokens: Of images that are sent along; ``None`` if they cost what the prompt does.
    """

    input_tokens: Decimal
    output_tokens: Decimal
    input_image_tokens: Decimal | None = None

    def of(self, tokens: Tokens) -> Decimal | None:
        """Return what so many tokens cost."""
        of_image = self.input_tokens if self.input_image_tokens is None else self.input_image_tokens
        given = tokens.input_text * self.input_tokens + tokens.input_image * of_image
        return (given + (tokens.output_image + tokens.output_text) * self.output_tokens) / PER_MILLION


Price = PerImage | PerToken


def _most_exact(prices: Mapping[Case, Decimal], size: str | None, quality: str | None) -> Decimal | None:
    # Size before quality, because size decides more: a price for "high" alone is no price for the largest image.
    cases = (Case(size, quality), Case(size, None), Case(None, quality), Case())
    return next((prices[case] for case in cases if case in prices), None)


def read_prices(given: object) -> dict[str, Price]:
    """Read prices by model.

    :param given: ``{"gpt-image-1": {"per_image": {"1024x1024:high": "0.17", "default": "0.25"}}, …}``.
    :raises ValueError: Saying where they are wrong, and what is allowed there.
    """
    if not isinstance(given, Mapping):
        raise ValueError("an object of prices by model")
    return {_model(name): _price(f"for {name!r}", price) for name, price in given.items()}


def _model(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError("an object of prices by model, each with a name")
    return name.strip()


def _price(place: str, given: object) -> Price:
    if not isinstance(given, Mapping):
        raise ValueError(f"{place}, an object with {_KINDS}")
    if set(given) == {"per_image"}:
        return PerImage(_entries(place, given["per_image"]))
    required, optional = {"input_tokens", "output_tokens"}, {"input_image_tokens"}
    if not required <= set(given) <= required | optional:
        raise ValueError(f"{place}, {_KINDS}")
    return PerToken(**{str(name): _amount(f"{place}, {name}", amount) for name, amount in given.items()})


def _entries(place: str, given: object) -> tuple[tuple[Case, Decimal], ...]:
    if not isinstance(given, Mapping):
        return ((Case(), _amount(f"{place}, per_image", given)),)
    entries = {_case(place, name): _amount(f"{place}, per_image {name!r}", amount) for name, amount in given.items()}
    if not entries:
        raise ValueError(f"{place}, a price per image")
    # Two spellings of one case: whichever came last would win, unseen.
    if len(entries) < len(given):
        raise ValueError(f"{place}, one price per image for each size and quality")
    return tuple(entries.items())


def _case(place: str, name: object) -> Case:
    if name == DEFAULT:
        return Case()
    words = name.lower().split(":") if isinstance(name, str) else []
    sizes = [word for word in words if _SIZE.fullmatch(word)]
    qualities = [word for word in words if _WORD.fullmatch(word) and word not in {*sizes, "auto", DEFAULT}]
    if not words or (words != sizes + qualities) or len(sizes) > 1 or len(qualities) > 1:
        raise ValueError(f"{place}, per_image by 'size:quality', 'size', 'quality' or 'default', not by {name!r}")
    return Case(sizes[0] if sizes else None, qualities[0] if qualities else None)


def _amount(place: str, given: object) -> Decimal:
    try:
        return amount_of(given)
    except ValueError as error:
        raise ValueError(f"{place}, {error}") from None
