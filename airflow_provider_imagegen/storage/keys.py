"""Key prefixes made of ids: readable as they are, and safe whatever a run id contains.

Two different sets of ids never get the same prefix. The operators call :func:`default_prefix`.
"""

from __future__ import annotations

import hashlib
import re
import string

MAX_PART_BYTES = 250
"""Longest part between two slashes; some stores refuse more than 255 bytes."""

_DIGEST_LENGTH = 32
# What S3 advises against is not in it, nor what readers of s3:// URIs take for the end of the key: ? and #.
_KEPT = frozenset(string.ascii_letters + string.digits + " !$&'()*+,-.:;=@_~")
_LOST_SPACE = re.compile(r"^ | $|(?<= ) ")
_LIKE_A_SHORTENED_ONE = re.compile(rf"~(?=[0-9a-f]{{{_DIGEST_LENGTH}}}\Z)")


def default_prefix(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return the prefix of one task instance's images, at most 800 bytes.

    :param map_index: -1 where the task is not mapped.
    """
    parts = ["imagegen", *map(safe_part, (dag_id, run_id, task_id))]
    return "/".join(parts if map_index < 0 else [*parts, str(map_index)])


def safe_part(text: str) -> str:
    """Return an id as one part of a key: percent-encoded where need be, cut and hashed where too long."""
    escaped = "".join(char if _is_kept(char) else _escaped(char) for char in text)
    escaped = _LOST_SPACE.sub("%20", escaped)
    escaped = _LIKE_A_SHORTENED_ONE.sub("%7E", escaped)
    if escaped in {".", ".."}:
        return escaped.replace(".", "%2E")
    if len(escaped.encode()) > MAX_PART_BYTES:
        return _shortened(escaped)
    # An id's own percent sign is always encoded, so a bare one cannot be mistaken for any.
    return escaped or "%"


def _is_kept(char: str) -> bool:
    return char in _KEPT if char.isascii() else char.isprintable()


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogatepass"))


def _shortened(escaped: str) -> str:
    digest = hashlib.sha256(escaped.encode()).hexdigest()[:_DIGEST_LENGTH]
    start = escaped.encode()[: MAX_PART_BYTES - _DIGEST_LENGTH - 1].decode(errors="ignore")
    return f"{re.sub('%[0-9A-F]?$', '', start)}~{digest}"
