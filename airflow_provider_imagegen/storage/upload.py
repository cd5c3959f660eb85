"""One object's way into S3, as well protected as the store can take it.

S3 compares what arrives with its SHA-256, and a condition keeps what is there already. What an older store does
not know is left out, one by one. The object store calls :func:`send`.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_imagegen.storage.errors import S3_ERRORS, is_checksum_unknown, is_unknown_to_store

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)

_without_checksums: set[str] = set()
"""Endpoints of stores that take no SHA-256, as far as this process knows."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One object on its way.

    :param file: The content, seekable.
    :param bytes: Its length.
    :param sha256: Its SHA-256, in hexadecimal.
    :param arguments: boto3's arguments: bucket, key, and the options of the object.
    """

    file: IO[bytes]
    bytes: int
    sha256: str
    arguments: Mapping[str, Any]


def base64_digest(hexadecimal: str) -> str:
    """Return a digest as S3's checksum headers spell it."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def send(s3: S3Client, upload: Upload, *, is_conditional: bool) -> dict[str, Any]:
    """Put an object.

    :param is_conditional: Whether it must not replace one that is there.
    :return: S3's response.
    :raises ClientError: If S3 did not take it.
    """
    endpoint = s3.meta.endpoint_url
    for is_checked, condition in _ways(endpoint, is_conditional):
        try:
            response = _send_once(s3, upload, condition, is_checked)
        except S3_ERRORS as error:
            if (is_checked and is_checksum_unknown(error)) or (condition and is_unknown_to_store(error)):
                continue
            raise
        if not is_checked and endpoint not in _without_checksums:
            _without_checksums.add(endpoint)
            log.warning("The S3 store at %s takes no SHA-256 checksums: it cannot prove what arrived.", endpoint)
        return response
    raise AssertionError("the last way either works or raises")


def _ways(endpoint: str, is_conditional: bool) -> Iterator[tuple[bool, dict[str, Any]]]:
    condition = {"IfNoneMatch": "*"} if is_conditional else {}
    if endpoint not in _without_checksums:
        yield True, condition
    yield False, condition
    if condition:
        yield False, {}


def _send_once(s3: S3Client, upload: Upload, condition: Mapping[str, Any], is_checked: bool) -> dict[str, Any]:
    upload.file.seek(0)
    checksum: dict[str, Any] = {"ChecksumSHA256": base64_digest(upload.sha256)} if is_checked else {}
    return dict(s3.put_object(**upload.arguments, **condition, **checksum, Body=upload.file))
