"""JSON with values that nobody expects: what parsers take and models, databases, terminals or floats do not."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

_LEVELS = 200

TEXTS = (
    "",
    " ",
    "\x00",
    "\ud83d",
    "\udfff\ud800",
    "\x1b[31m\x1b]0;title\x07",
    "\x9b2J\r\n\u2028\u0085",
    "[/nope][bold]:bomb:",
    "<script>alert(1)</script>",
    "../..",
    ".",
    "~",
    "a/b?c#d%2e",
    "1e400",
    "NaN",
    "null",
    "ä 中 \U0001f600",
    "http://user:password@[::1",
    "s3://",
    "s3://bucket/\x00",
    "data:image/png;base64,####",
    "9" * 500,
    "a" * 40_000,
    ("a" * 31 + "://") * 300,
)
"""Texts that JSON can spell."""
NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(10**400), 0.1, -0.0, 1e308, 5e-324, float("inf"), float("nan"))
OTHERS = (None, True, False, [], {}, [[]], [None], {"": None}, {"\ud800": "\x00"})


def odd_value(random: Random) -> Any:
    """Return any value; rarely a deep one."""
    kind = random.randrange(20)
    if kind == 0:
        return _nested(random.choice(("text", 1, None)), random.randrange(1, _LEVELS))
    if kind < 9:
        return random.choice(TEXTS)
    return copy.deepcopy(random.choice(NUMBERS if kind < 15 else OTHERS))


def _nested(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


def spoil(random: Random, document: Any, keep: frozenset[str] = frozenset()) -> Any:
    """
    Return a document in which some values are others, missing or doubled.

    :param keep: names of fields that stay as they are, with all that is in them
    """
    document = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 2, 4))):
        spots = list(_spots(document, keep))
        if spots:
            _spoil_one(random, *random.choice(spots))
    return document


def _spots(value: Any, keep: frozenset[str]) -> Any:
    """Yield every place in a document as its container and its name there."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in entries:
        if name not in keep:
            yield value, name
            yield from _spots(entry, keep)


def _spoil_one(random: Random, container: Any, name: Any) -> None:
    match random.randrange(9):
        case 0:
            del container[name]
        case 1 if isinstance(container, dict):
            container[random.choice(TEXTS)] = container[name]
        case 2 if isinstance(container, list):
            container.extend(copy.deepcopy(container[name]) for _ in range(random.choice((1, 3, 60))))
        case 3:
            container[name] = [container[name]]
        case 4 if isinstance(container[name], str):
            container[name] += random.choice(TEXTS)
        case 5 | 6:
            container[name] = _another(random, container[name])
        case _:
            container[name] = odd_value(random)


def _another(random: Random, value: Any) -> Any:
    """Return another value of the same kind: a model takes it, and what comes after may not."""
    if isinstance(value, str):
        return random.choice(TEXTS)
    return random.choice(NUMBERS) if isinstance(value, int | float) else odd_value(random)


def dumped(random: Random, document: Any) -> bytes:
    """Return a document as JSON, in one of its spellings."""
    # Half of a surrogate pair is JSON only as an escape.
    text = json.dumps(document, indent=random.choice((None, None, 1)))
    return text.replace("/", random.choice(("/", "/", r"\/"))).encode()
