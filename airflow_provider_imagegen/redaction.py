"""Text from outside, made fit for logs and errors: short, one line, without secrets.

Called wherever a gateway's or a result host's own words are quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_URL = re.compile(r"(?P<address>[a-z][a-z0-9+.-]*://[^\s?#\"'<>]*)[?#][^\s\"'<>]*", re.IGNORECASE)
_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@\"'<>]*@", re.IGNORECASE)
_BEARER = re.compile(r"(?P<scheme>\b(?:bearer|key|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)


def redacted(text: str, secrets: Iterable[str] = (), limit: int = 200) -> str:
    """Return one short line of ``text`` without secrets.

    URL queries, fragments and user names are cut off (signatures live there), bearer tokens and every
    given secret are replaced.

    :param text: Words from outside.
    :param secrets: Strings that must not appear, e.g. the connection's token.
    :param limit: Characters to keep at most.
    """
    line = " ".join(text.split())
    for secret in secrets:
        if secret:
            line = line.replace(secret, "***")
    line = _URL.sub(r"\g<address>?…", line)
    line = _USERINFO.sub(r"\g<scheme>***@", line)
    line = _BEARER.sub(r"\g<scheme>***", line)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def address_of(url: str) -> str:
    """Return scheme, host and path of a URL: all of it that may be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
