"""Where images go: bucket, key prefix, and the options of every object."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.storage.keys import default_prefix
from airflow_provider_imagegen.storage.options import ObjectOptions

MAX_PREFIX_BYTES = 900
"""Longest key prefix; S3 takes keys of 1024 bytes."""

# As botocore has it; what it takes and a store does not, the store refuses.
_BUCKET = re.compile(r"[a-zA-Z0-9._-]{1,255}|arn:aws[a-z-]*:s3[a-z-]*:\S+")
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


def parse_destination(s3_bucket: str | None, s3_key: str, options: ObjectOptions) -> Destination:
    """Read bucket and key prefix as a user wrote them.

    :param s3_bucket: The bucket, or ``None`` if ``s3_key`` is an ``s3://`` URL.
    :param s3_key: A key prefix, or ``s3://bucket/prefix``.
    :param options: How objects are put.
    :raises InvalidRequest: If there is no bucket, or there are two different ones.
    """
    if not isinstance(s3_key, str):
        raise InvalidRequest("s3_key", s3_key, "a key prefix, or s3://bucket/prefix")
    prefix = s3_key
    if s3_key.startswith("s3://"):
        bucket, _, prefix = s3_key.removeprefix("s3://").partition("/")
        if s3_bucket and s3_bucket != bucket:
            raise InvalidRequest("s3_bucket", s3_bucket, f"the bucket of s3_key, {bucket!r}, or nothing")
    else:
        bucket = s3_bucket or ""
    if not bucket:
        raise InvalidRequest("s3_bucket", s3_bucket, "a bucket's name, unless s3_key is s3://bucket/prefix")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidRequest("s3_bucket", bucket, "a bucket's name: letters, digits, dots, hyphens, underscores")
    return Destination(bucket=bucket, prefix=prefix.strip("/"), options=options)


def key_of(s3_key: str, ti: Any) -> str:
    """Return a key prefix as it was rendered; one of nothing but ids is made safe, whatever they contain.

    :param s3_key: The rendered prefix.
    :param ti: The running task instance.
    """
    ids = ["imagegen", ti.dag_id, ti.run_id, ti.task_id, *([str(ti.map_index)] if ti.map_index >= 0 else [])]
    return default_prefix(ti.dag_id, ti.run_id, ti.task_id, ti.map_index) if s3_key == "/".join(ids) else s3_key
