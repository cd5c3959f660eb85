"""One object's way into S3, as well protected as the store can take it; the object store calls :func:`send`."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_imagegen.storage.errors import S3_ERRORS, is_checksum_unknown, is_unknown_to_store

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)

_without_checksums: set[str] = set()
"""Endpoints of stores that take no SHA-256, as far as this process knows."""


def send(
    s3: S3Client, file: IO[bytes], sha256: str, arguments: Mapping[str, Any], *, is_conditional: bool
) -> dict[str, Any]:
    """Put an object.

    :param file: The content, seekable.
    :param sha256: Its SHA-256, in hexadecimal.
    :param arguments: boto3's arguments: bucket, key, and the options of the object.
    :param is_conditional: Whether it must not replace one that is there.
    :return: S3's response.
    :raises ClientError: If S3 did not take it.
    """
    endpoint = s3.meta.endpoint_url
    for protection in _protections(endpoint, sha256, is_conditional):
        file.seek(0)
        try:
            response = s3.put_object(**arguments, **protection, Body=file)
        except S3_ERRORS as error:
            if _is_unknown(error, protection):
                continue
            raise
        # Only now: what was refused before may have been the condition.
        if "ChecksumSHA256" not in protection and endpoint not in _without_checksums:
            _without_checksums.add(endpoint)
            log.warning("The S3 store at %s takes no SHA-256 checksums: it cannot prove what arrived.", endpoint)
        return dict(response)
    raise AssertionError("without any protection a put either works or raises")


def _protections(endpoint: str, sha256: str, is_conditional: bool) -> Iterator[dict[str, Any]]:
    """Yield the protections of a put, all of them first; older stores refuse what they do not know."""
    # S3 compares it with the bytes that arrive: a bit that turned on the disk or on the way is noticed.
    checksum = {"ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode()}
    condition = {"IfNoneMatch": "*"} if is_conditional else {}
    if endpoint not in _without_checksums:
        yield checksum | condition
    yield condition
    if condition:
        yield {}


def _is_unknown(error: BaseException, protection: Mapping[str, Any]) -> bool:
    if "ChecksumSHA256" in protection and is_checksum_unknown(error):
        return True
    return "IfNoneMatch" in protection and is_unknown_to_store(error)
