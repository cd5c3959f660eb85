"""Where images go: bucket, key prefix, and what S3 is told about every object."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.landing.storing.options import ObjectOptions

MAX_PREFIX_BYTES = 900
"""Longest key prefix; S3 takes keys of 1024 bytes."""

# Control characters, halves of characters, line and paragraph separators: no XML listing can carry them all.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where images go.

    :param bucket: The bucket's name.
    :param prefix: Key prefix; objects are ``<prefix>/<index>.<ext>``.
    :param options: How objects are put.
    :raises InvalidRequest: If stores treat the prefix differently, or not at all.
    """

    bucket: str
    prefix: str
    options: ObjectOptions = field(default_factory=ObjectOptions)

    def __post_init__(self) -> None:
        """Refuse prefixes that stores treat differently, or not at all."""
        if self.prefix and not {"", ".", ".."}.isdisjoint(self.prefix.split("/")):
            raise InvalidRequest("s3_key", self.prefix, "a prefix without empty, '.' and '..' parts")
        if any(unicodedata.category(char) in _REFUSED_CATEGORIES or char in "\ufffe\uffff" for char in self.prefix):
            raise InvalidRequest("s3_key", self.prefix, "a prefix without control characters")
        if len(self.prefix.encode()) > MAX_PREFIX_BYTES:
            raise InvalidRequest("s3_key", self.prefix, f"at most {MAX_PREFIX_BYTES} bytes")

    def key(self, name: str) -> str:
        """Return the object key for a file name under the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    @property
    def manifest_key(self) -> str:
        """Key of the manifest."""
        return self.key("manifest.json")

    def uri(self, key: str) -> str:
        """Return ``s3://bucket/key``."""
        return f"s3://{self.bucket}/{key}"
