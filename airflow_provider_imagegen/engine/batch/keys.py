"""What the objects of a batch are called: the rules of a row's key, and the names that follow from it.

Pure decisions; the reading of rows calls them before anything is paid, the engine when it lands.
"""

from __future__ import annotations

import re

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.storage.destination import safe_part

MAX_KEY_BYTES = 200
"""Longest key of a row."""

_MAX_OBJECT_KEY_BYTES = 1024
_DIGITS = 5
_LONGEST_ENDING = "-9.preview-9.jpeg"
_RESERVED = frozenset({"manifest", "manifest.json", "manifest.jsonl"})
_LIKE_A_FILE = re.compile(r"\.(?:png|jpe?g|webp|gif|svg|avif|bmp|tiff?|preview-[0-9]+)\Z", re.IGNORECASE)
_ALPHABET = "letters, digits, single spaces and ! $ & ' ( ) * + , - . / : ; = @ _ ~, with no empty, '.' or '..' part"


def default_key(number: int) -> str:
    """Return the key of a row that names none: always five digits, so that it stays when a batch grows.

    :param number: Position of the row in the batch, from 0.
    """
    return f"{number:0{_DIGITS}}"


def longest_key(prefix: str) -> int:
    """Return how many bytes a row's key may have under a prefix, so that S3 takes every object's key."""
    free = _MAX_OBJECT_KEY_BYTES - len(f"{prefix}/{_LONGEST_ENDING}".encode())
    return max(0, min(MAX_KEY_BYTES, free))


def object_names(key: str, count: int) -> tuple[str, ...]:
    """Return the names of a row's objects, without prefix and extension.

    :param count: Number of images the row asks for.
    """
    return (key,) if count == 1 else tuple(f"{key}-{index}" for index in range(count))


def checked_key(given: object, most_bytes: int = MAX_KEY_BYTES) -> str:
    """Return a row's key as a text.

    :param given: A text, or a whole number.
    :param most_bytes: Its longest length.
    :raises InvalidRequest: If objects could not safely be called by it.
    """
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise InvalidRequest("key", given, "a text")
    key = str(given)
    parts = key.split("/")
    if any(safe_part(part) != part for part in parts):
        raise InvalidRequest("key", key, f"a name of {_ALPHABET}")
    if len(key.encode()) > most_bytes:
        raise InvalidRequest("key", key, f"at most {most_bytes} bytes")
    if any(_LIKE_A_FILE.search(part) for part in parts):
        raise InvalidRequest("key", key, "a name without extension, which follows from the image")
    if parts[0] in _RESERVED:
        raise InvalidRequest("key", key, "another name, it is reserved for the manifest")
    return key
