"""Where images go: bucket, key prefix, and what S3 is told about every object."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_imagegen.exceptions import InvalidRequest

MAX_PREFIX_BYTES = 900
"""Longest key prefix; S3 takes keys of 1024 bytes."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where images go, in the words of Airflow's own ``…ToS3`` operators.

    :param bucket: The bucket's name.
    :param prefix: Key prefix; objects are ``<prefix>/<index>.<ext>``.
    :param encrypt: Whether S3 encrypts at rest with its own key (``AES256``).
    :param acl_policy: Canned ACL of the objects.
    """

    bucket: str
    prefix: str
    encrypt: bool = False
    acl_policy: str | None = None

    def __post_init__(self) -> None:
        """Refuse prefixes that stores treat differently, or not at all."""
        segments = self.prefix.split("/") if self.prefix else []
        if any(segment in {"", ".", ".."} for segment in segments) or not self.prefix.isprintable():
            raise InvalidRequest("s3_key", self.prefix, "a prefix without empty, '.' and '..' parts")
        if len(self.prefix.encode()) > MAX_PREFIX_BYTES:
            raise InvalidRequest("s3_key", self.prefix, f"at most {MAX_PREFIX_BYTES} bytes")

    def key(self, name: str) -> str:
        """Return the object key for a file name under the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def uri(self, key: str) -> str:
        """Return ``s3://bucket/key``."""
        return f"s3://{self.bucket}/{key}"
