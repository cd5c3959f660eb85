"""Text from outside, made fit for logs and errors: short, one line, without secrets.

Called wherever a message of a gateway or a result host is quoted.
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

# Characters of a text that are read to make one short line of it: a response may be megabytes long.
_READ = 10_000

# Repetitions are bounded, so that no text takes long. Compiled when first used: compiling takes a millisecond, which
# every parse of a DAG file would pay.
_URL = r"(?i)(?P<address>[a-z][a-z0-9+.-]{0,30}://[^\s?#\"'<>]*)[?#][^\s\"'<>]*"
_TEMPLATE = r"\{[{%#]"
_USERINFO = r"(?i)(?P<scheme>[a-z][a-z0-9+.-]{0,30}://)[^\s/@\"'<>]*@"
# As people write it who forget the scheme.
_LOGIN = r"(?<![\w/:*])[^\s/@:\"'<>=(]{1,100}:[^\s/@\"'<>]{1,100}@(?=[\w\[])"
_BEARER = r"(?i)(?P<scheme>\b(?:bearer|key|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"


# By context, not global: a triggerer speaks to many gateways at once, each with a token of its own.
_hidden: ContextVar[tuple[str, ...]] = ContextVar("imagegen_hidden", default=())


@contextmanager
def redact_secrets(secrets: Iterable[str]) -> Iterator[None]:
    """Keep secrets out of every text that is redacted inside the block, however it spells them.

    :param secrets: Strings that must not appear; short ones are ignored.
    """
    known = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
    token = _hidden.set((*_hidden.get(), *known))
    try:
        yield
    finally:
        _hidden.reset(token)


def redacted(text: str, secrets: Iterable[str] = (), limit: int = 200) -> str:
    """Return one short line of ``text`` without secrets.

    URL queries, fragments and user names are cut off (signatures live there), bearer tokens and every
    secret are replaced: those given, and those of :func:`redact_secrets`.

    :param text: Text from outside.
    :param secrets: Strings that must not appear, e.g. the connection's token.
    :param limit: Characters to keep at most.
    """
    line = re.sub(_BEARER, r"\g<scheme>***", without_secrets(_beginning(text), secrets))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _beginning(text: str) -> str:
    """Return the beginning of a text as one line, with no word cut in two."""
    if len(text) > _READ:
        text = text[:_READ].rpartition(" ")[0] or text[:_READ]
    return " ".join(text.split())


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text of any length without secrets, those of :func:`redact_secrets` included.

    :param secrets: Further strings that must not appear.
    """
    spellings = {spelling for secret in (*secrets, *_hidden.get()) if secret for spelling in _spellings(secret)}
    # The longest first: one may begin like another.
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return re.sub(_LOGIN, "***@", _without_queries(text))


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
    if isinstance(value, str):
        parted = (word.partition("?") for word in value.split())
        queries = (query for address, _, query in parted if "/" in address)
        yield from (query for query in queries if len(query) >= SHORTEST_SECRET and not re.search(_TEMPLATE, query))
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from queries_in(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from queries_in(entry)


def _without_queries(text: str) -> str:
    return re.sub(_USERINFO, r"\g<scheme>***@", re.sub(_URL, r"\g<address>?…", text))


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
