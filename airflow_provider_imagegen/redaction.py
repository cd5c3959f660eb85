"""The door for text from outside: made fit to be stored and shown, short, without secrets.

Whatever a gateway, a result host or a store says passes :func:`foreign_text` (or :func:`foreign_id`,
:func:`foreign_json`, :func:`redacted`) before a validator, a log, the ledger or XCom gets it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

SHORTEST_SECRET = 8
"""Characters a secret has at least: anything shorter is part of ordinary words too."""

MAX_TEXT = 32_000
"""Characters that are kept of a text from outside: the longest prompt of any known model has as many."""
MAX_ID = 512
MAX_DEPTH = 32
"""Levels of JSON data from outside that are kept: deeper ones overflow the stack of whoever reads them."""

# Characters of a text that are read to make one short line of it: a response may be megabytes long.
_READ = 10_000

# Every pattern takes time linear in the text, whatever the text: the event loop of a triggerer waits for it. So none
# restarts inside what it has read in vain. _URL matches addresses without a query too, and the first class of _LOGIN
# ends at every character after which it can begin. Compiled when first used: compiling takes a millisecond, which every
# parse of a DAG file would pay.
_URL = r"(?P<address>://[^\s?#\"'<>]*)(?P<query>[?#][^\s\"'<>]*)?"
_TEMPLATE = r"\{[{%#]"
_USERINFO = r"://[^\s/@\"'<>]*@"
# As people write it who forget the scheme.
_LOGIN = r"(?<![^\s@\"'<>=(])[^\s/@:\"'<>=(]+:[^\s/@\"'<>]{1,100}@(?=[\w\[])"
# Half of a surrogate pair, which JSON can spell and UTF-8 cannot.
_HALVES = "[\ud800-\udfff]"
# PostgreSQL takes no NUL, and terminals obey the others. Tabs and line breaks stay.
_CONTROLS = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+"
_BEARER = r"(?i)(?P<scheme>\b(?:bearer|key|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"


# The secrets of :func:`redact_secrets` in all their spellings, the longest first. By context, not global: a triggerer
# speaks to many gateways at once, each with a token of its own.
_hidden: ContextVar[tuple[str, ...]] = ContextVar("imagegen_hidden", default=())


@contextmanager
def redact_secrets(secrets: Iterable[str]) -> Iterator[None]:
    """Keep secrets, unless they are short, out of every text that is redacted inside the block."""
    known = (spelling for secret in secrets if len(secret) >= SHORTEST_SECRET for spelling in _spellings(secret))
    # Spelled once, not for every text: a lookup of a hundred tasks has hundreds of them, every few seconds.
    token = _hidden.set(_longest_first({*_hidden.get(), *known}))
    try:
        yield
    finally:
        _hidden.reset(token)


def plain_text(text: str) -> str:
    """Return a text as anything can store and show it: valid UTF-8 without control characters."""
    if text.isprintable():
        return text
    return re.sub(_CONTROLS, "", re.sub(_HALVES, "\ufffd", text))


def shortened(text: str, limit: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def foreign_text(text: str, secrets: Iterable[str] = (), limit: int = MAX_TEXT) -> str:
    """Return a text from outside as :func:`plain_text` does, short and without secrets."""
    # Known secrets are replaced before it is shortened: half of one would not be found.
    text = _without_known(plain_text(text), secrets)
    return re.sub(_LOGIN, "***@", _without_queries(shortened(text, limit)))


def foreign_id(text: str) -> str:
    """Return an id from outside as :func:`plain_text` does, short and without known secrets."""
    # Nothing else is cut out: a task is looked up by its id.
    return shortened(_without_known(plain_text(text)), MAX_ID)


def foreign_json(value: Any, *, depth: int = MAX_DEPTH) -> Any:
    """Return JSON data from outside with its texts as :func:`plain_text` returns them, and too deep parts ``None``."""
    if isinstance(value, str):
        # Of any length: it may be an image.
        return value if value.isprintable() else plain_text(value)
    if value is None or not isinstance(value, (dict, list, Mapping)):
        return value
    if not depth:
        return None
    if isinstance(value, list):
        return [foreign_json(entry, depth=depth - 1) for entry in value]
    return {plain_text(name): foreign_json(entry, depth=depth - 1) for name, entry in value.items()}


def is_utf8(value: Any) -> bool:
    """Return whether UTF-8 can hold every text in JSON data."""
    return not any(re.search(_HALVES, text) for text in _texts_in(value))


def redacted(text: str, secrets: Iterable[str] = (), limit: int = 200) -> str:
    """Return one short line of ``text`` without secrets.

    URL queries, fragments and user names are cut off (signatures live there), bearer tokens and every
    secret are replaced: those given, and those of :func:`redact_secrets`.
    """
    line = " ".join(foreign_text(text, secrets, _READ).split())
    return shortened(re.sub(_BEARER, r"\g<scheme>***", line), limit)


def _without_known(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without the given secrets and those of :func:`redact_secrets`, however it spells them."""
    spellings = _hidden.get()
    if given := {spelling for secret in secrets if secret for spelling in _spellings(secret)}:
        spellings = _longest_first(given | {*spellings})
    for spelling in spellings:
        text = text.replace(spelling, "***")
    return text


def _longest_first(spellings: set[str]) -> tuple[str, ...]:
    # One may begin like another.
    return tuple(sorted(spellings, key=len, reverse=True))


def _spellings(secret: str) -> Iterator[str]:
    """Yield a secret as it is, and as URLs, JSON and base64 spell it."""
    # Gateways echo a request in their errors, each in another spelling.
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
    for encoded in (base64.b64encode(secret.encode()), base64.urlsafe_b64encode(secret.encode())):
        yield encoded.decode().rstrip("=")


def address_of(url: str) -> str:
    """Return scheme, host and path of a URL: all of it that may be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(invalid URL)"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def without_queries(value: Any) -> Any:
    """Return JSON data with the query, fragment and user name of every URL in its texts cut off."""
    if isinstance(value, str):
        return _without_queries(value)
    if isinstance(value, Mapping):
        return {name: without_queries(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [without_queries(entry) for entry in value]
    return value


def queries_in(value: Any) -> Iterator[str]:
    """Yield the query of every address in JSON data, with or without a scheme, as far as it is no template."""
    for text in _texts_in(value):
        parted = (word.partition("?") for word in text.split())
        queries = (query for address, _, query in parted if "/" in address)
        yield from (query for query in queries if len(query) >= SHORTEST_SECRET and not re.search(_TEMPLATE, query))


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _texts_in(name)
            yield from _texts_in(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts_in(entry)


def _without_queries(text: str) -> str:
    text = re.sub(_URL, lambda url: f"{url['address']}?…" if url["query"] else url["address"], text)
    return re.sub(_USERINFO, "://***@", text)


def short_in_json(text: str, limit: int) -> str:
    """Return a text that takes at most so many bytes in JSON, whatever its alphabet."""
    if len(json.dumps(text)) <= limit:
        return text
    text = text[:limit]
    while len(json.dumps(f"{text}…")) > limit:
        text = text[: len(text) - max(1, (len(json.dumps(text)) - limit) // 12)]
    return f"{text}…"


def short_value(value: object, limit: int = 80) -> str:
    """Return a value as an error shows it: whole, or its beginning and its length."""
    text = repr(value)
    length = len(value if isinstance(value, str) else text)
    return text if len(text) <= limit else f"{text[:limit]}… ({length} characters)"
