"""Where images go: bucket, key prefix, the options of every object, and key prefixes made of Airflow's ids.

A prefix of ids is readable as it is and safe whatever a run id contains; two different sets of ids never get the same
one. This is the only place that takes an ``s3://`` URL apart.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.storage.options import ObjectOptions

MAX_PREFIX_BYTES = 900
"""Longest key prefix; S3 takes keys of 1024 bytes."""
MAX_PART_BYTES = 250
"""Longest part between two slashes; some stores refuse more than 255 bytes."""

# As botocore has it; what it takes and a store does not, the store refuses.
_BUCKET = re.compile(r"[a-zA-Z0-9._-]{1,255}|arn:aws[a-z-]*:s3[a-z-]*:\S+")
# Control characters, halves of characters, line and paragraph separators: no XML listing can carry them all.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})

_DIGEST_LENGTH = 32
# What S3 advises against is not in it, nor what readers of s3:// URLs take for the end of the key: ? and #.
_KEPT = frozenset(string.ascii_letters + string.digits + " !$&'()*+,-.:;=@_~")
# Stores and their clients trim or join spaces.
_LOST_SPACE = re.compile(r"^ | $|(?<= ) ")
_LIKE_A_SHORTENED_ONE = re.compile(rf"~(?=[0-9a-f]{{{_DIGEST_LENGTH}}}\Z)")


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where images go: objects are ``<prefix>/<index>.<ext>``."""

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


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` URL; of anything else, no bucket and the text as it is."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return (bucket, key) if bucket and uri.startswith("s3://") else ("", uri)


def parse_destination(s3_bucket: str | None, s3_key: str, options: ObjectOptions) -> Destination:
    """Read bucket and key prefix as a user wrote them: the key may be ``s3://bucket/prefix``."""
    if not isinstance(s3_key, str):
        raise InvalidRequest("s3_key", s3_key, "a key prefix, or s3://bucket/prefix")
    named, prefix = split_uri(s3_key)
    if not named and s3_key.startswith("s3://"):
        # A variable that rendered empty: taken for a prefix, it would put what is paid for under "s3:".
        raise InvalidRequest("s3_key", s3_key, "s3://bucket/prefix with a bucket")
    if named and s3_bucket and s3_bucket != named:
        raise InvalidRequest("s3_bucket", s3_bucket, f"the bucket of s3_key, {named!r}, or nothing")
    bucket = named or s3_bucket
    if not bucket:
        raise InvalidRequest("s3_bucket", s3_bucket, "a bucket's name, unless s3_key is s3://bucket/prefix")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidRequest("s3_bucket", bucket, "a bucket's name: letters, digits, dots, hyphens, underscores")
    return Destination(bucket=bucket, prefix=prefix.strip("/"), options=options)


def key_of(s3_key: str, ti: Any) -> str:
    """Return a key prefix as it was rendered; one of nothing but ids is made safe, whatever they contain."""
    ids = ["imagegen", ti.dag_id, ti.run_id, ti.task_id, *([str(ti.map_index)] if ti.map_index >= 0 else [])]
    return default_prefix(ti.dag_id, ti.run_id, ti.task_id, ti.map_index) if s3_key == "/".join(ids) else s3_key


def default_prefix(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return the prefix of one task instance's images, at most 800 bytes; without a map index if that is -1."""
    parts = ["imagegen", *map(safe_part, (dag_id, run_id, task_id))]
    return "/".join(parts if map_index < 0 else [*parts, str(map_index)])


def safe_part(text: str) -> str:
    """Return an id as one part of a key: percent-encoded where need be, cut and hashed where too long."""
    escaped = "".join(char if _is_kept(char) else quote(char, safe="", errors="surrogatepass") for char in text)
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


def _shortened(escaped: str) -> str:
    digest = hashlib.sha256(escaped.encode()).hexdigest()[:_DIGEST_LENGTH]
    start = escaped.encode()[: MAX_PART_BYTES - _DIGEST_LENGTH - 1].decode(errors="ignore")
    return f"{re.sub('%[0-9A-F]?$', '', start)}~{digest}"
