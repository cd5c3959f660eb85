"""The rows of a batch: every entry becomes a checked request with its own key, or a reason why not.

Pure decisions over entries from anywhere; the batch operator calls :func:`read_rows` before anything is paid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_provider_imagegen.engine.batch.input import Entry, json_value, unknown_fields
from airflow_provider_imagegen.exceptions import InvalidRequest, InvalidRow, InvalidRows
from airflow_provider_imagegen.redaction import shortened
from airflow_provider_imagegen.schemas import ImageRequest
from airflow_provider_imagegen.schemas.requests import with_extra_named
from airflow_provider_imagegen.storage.destination import safe_part

T = TypeVar("T")

MAX_ROWS = 100_000
MAX_KEY_BYTES = 200

_MAX_REASON = 500
_MAX_OBJECT_KEY_BYTES = 1024
_LONGEST_ENDING = "-9.preview-9.jpeg"
_RESERVED = frozenset({"manifest", "manifest.json", "manifest.jsonl"})
_LIKE_A_FILE = re.compile(r"\.(?:png|jpe?g|webp|gif|svg|avif|bmp|tiff?|preview-[0-9]+)\Z", re.IGNORECASE)
_ALPHABET = "letters, digits, single spaces and ! $ & ' ( ) * + , - . / : ; = @ _ ~, with no empty, '.' or '..' part"

Check = Callable[[ImageRequest], None]
"""Refuses, with :class:`InvalidRequest`, requests that model or gateway are known not to support."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a batch.

    :param number: Position in the batch, from 0; rows that are wrong count too.
    :param key: Name of its objects under the prefix, see :func:`object_name`.
    """

    number: int
    key: str
    request: ImageRequest


@dataclass(frozen=True)
class Rows:
    """A batch as it was read: rows that can be submitted, and those that cannot, in order."""

    valid: tuple[Row, ...]
    invalid: tuple[InvalidRow, ...]


def read_rows(
    entries: Iterable[Entry], defaults: Mapping[str, Any], check: Check, most_key_bytes: int = MAX_KEY_BYTES
) -> Rows:
    """Check every entry of a batch, with defaults for what it does not set; one that is wrong stops no other."""
    reading = _Reading(defaults, check, most_key_bytes)
    valid: list[Row] = []
    invalid: list[InvalidRow] = []
    for number, entry in enumerate(entries):
        if number == MAX_ROWS:
            too_many = InvalidRow(entry.place, f"a batch has at most {MAX_ROWS} rows", number)
            raise InvalidRows((too_many, *invalid), advice="Split the batch.")
        row = reading.row(number, entry)
        if isinstance(row, Row):
            valid.append(row)
        else:
            invalid.append(row)
    return Rows(tuple(valid), tuple(invalid))


def default_key(number: int) -> str:
    """Return the key of a row that has none of its own."""
    # Always five digits: keys that grew with the batch would give a retry other objects than the first try.
    return f"{number:05}"


def longest_key(prefix: str) -> int:
    """Return how many bytes a row's key may have under a prefix, so that S3 takes every object's key."""
    free = _MAX_OBJECT_KEY_BYTES - len(f"{prefix}/{_LONGEST_ENDING}".encode())
    return max(0, min(MAX_KEY_BYTES, free))


def object_name(key: str, count: int, index: int) -> str:
    """Return the name of one of a row's images, of which there may be more than asked for, without extension."""
    if index >= count:
        return f"{key}.extra-{index}"
    return key if count == 1 else f"{key}-{index}"


def checked_key(given: object, most_bytes: int = MAX_KEY_BYTES) -> str:
    """Return a row's key, a text or a whole number, as a text."""
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise InvalidRequest("key", given, "a text")
    key = str(given)
    parts = key.split("/")
    # Readers and stores of S3 keys resolve or escape other names, and would find another object or none.
    if any(safe_part(part) != part for part in parts):
        raise InvalidRequest("key", key, f"a name of {_ALPHABET}")
    if len(key.encode()) > most_bytes:
        raise InvalidRequest("key", key, f"at most {most_bytes} bytes")
    if any(_LIKE_A_FILE.search(part) for part in parts):
        raise InvalidRequest("key", key, "a name without extension, which follows from the image")
    if parts[0] in _RESERVED:
        raise InvalidRequest("key", key, "another name, it is reserved for the manifest")
    return key


class _Reading:
    """One reading of a batch: knows the names that are taken."""

    def __init__(self, defaults: Mapping[str, Any], check: Check, most_key_bytes: int) -> None:
        self._defaults = _with_extra_named(_without_none(defaults))
        self._check = check
        self._most_key_bytes = most_key_bytes
        self._takers: dict[str, str] = {}

    def row(self, number: int, entry: Entry) -> Row | InvalidRow:
        """Return an entry as a row, or with all that is wrong with it."""
        if entry.fault is not None:
            return InvalidRow(entry.place, entry.fault, number)
        fields = _without_none(entry.fields)
        given_key = fields.pop("key", default_key(number))
        unknown = [name for name in fields if name not in ImageRequest.model_fields]
        request = _tried(lambda: self._request({name: fields[name] for name in fields if name not in unknown}))
        count = request.n if isinstance(request, ImageRequest) else 1
        key = _tried(lambda: self._taken(checked_key(given_key, self._most_key_bytes), count, entry.place))
        if isinstance(key, str) and isinstance(request, ImageRequest) and not unknown:
            return Row(number, key, request)
        reasons = [result.message for result in (key, request) if isinstance(result, InvalidRequest)]
        return InvalidRow(entry.place, _line([unknown_fields(unknown)] * bool(unknown) + reasons), number)

    def _request(self, fields: Mapping[str, Any]) -> ImageRequest:
        # Named before they are merged: what a row says in extra goes before what all rows say by name.
        fields = _with_extra_named(fields)
        merged = {**self._defaults, **fields}
        if "extra" in fields:
            merged["extra"] = _merged(self._defaults.get("extra"), fields["extra"])
        request = ImageRequest.checked(merged)
        self._check(request)
        return request

    def _taken(self, key: str, count: int, place: str) -> str:
        """Take a key, and all names that follow from it, unless another row has taken one of them."""
        # The key cat-1 and the second image of the key cat have one name: one paid image would replace the other.
        names = dict.fromkeys((key, *(object_name(key, count, index) for index in range(count))))
        if taken := next((name for name in names if name in self._takers), None):
            raise InvalidRequest("key", key, f"{self._takers[taken]} has the name {taken!r} already")
        self._takers.update(dict.fromkeys(names, place))
        return key


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _with_extra_named(fields: Mapping[str, Any]) -> dict[str, Any]:
    return with_extra_named({**fields, "extra": _extra(fields["extra"])} if "extra" in fields else fields)


def _extra(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        return json_value(given)
    except ValueError as error:
        raise InvalidRequest("extra", "(hidden)", str(error)) from None


def _merged(defaults: object, own: object) -> object:
    return {**defaults, **own} if isinstance(defaults, Mapping) and isinstance(own, Mapping) else own


def _tried(make: Callable[[], T]) -> T | InvalidRequest:
    try:
        return make()
    except InvalidRequest as refusal:
        return refusal


def _line(reasons: Iterable[str]) -> str:
    text = " ".join("; ".join(reasons).split())
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return shortened(text, _MAX_REASON)
