"""A large object in parts, each with a SHA-256 that S3 checks; in its place only when it is whole.

Not boto3's ``upload_fileobj``: that takes no condition and returns neither ETag nor version. ``sending`` calls it
for what one put should not carry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from s3transfer.utils import ReadFileChunk

from airflow_provider_imagegen.exceptions import UploadFailed
from airflow_provider_imagegen.landing.storing.parcel import Parcel, base64_digest
from airflow_provider_imagegen.s3_faults import S3_ERRORS

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

    from mypy_boto3_s3.client import S3Client

PART_BYTES = 8 * 1024 * 1024
"""Bytes of one part."""
PIECE = 64 * 1024


def put_in_parts(s3: S3Client, parcel: Parcel, condition: Mapping[str, Any], *, is_checked: bool) -> dict[str, Any]:
    """Put an object part by part; nothing of it stays if that fails.

    :param parcel: What and where; its file is at its start.
    :param condition: Condition under which the whole takes its place.
    :param is_checked: Whether S3 gets a checksum of every part.
    :return: S3's answer.
    :raises ClientError: If S3 did not take it.
    :raises UploadFailed: If the file is no longer what the parcel says.
    """
    algorithm: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"} if is_checked else {}
    upload: dict[str, Any] = {name: parcel.arguments[name] for name in ("Bucket", "Key")}
    upload["UploadId"] = s3.create_multipart_upload(**parcel.arguments, **algorithm)["UploadId"]
    try:
        parts = [_put_part(s3, upload, part, is_checked) for part in _parts(parcel)]
        whole: dict[str, Any] = {"MultipartUpload": {"Parts": parts}}
        return dict(s3.complete_multipart_upload(**upload, **whole, **condition))
    except BaseException:
        with suppress(*S3_ERRORS):
            s3.abort_multipart_upload(**upload)
        raise


@dataclass(frozen=True)
class _Part:
    """A stretch of the file, none of which is in memory."""

    number: int
    body: ReadFileChunk
    sha256: str


def _put_part(s3: S3Client, upload: Mapping[str, Any], part: _Part, is_checked: bool) -> dict[str, Any]:
    checksum: dict[str, Any] = {"ChecksumSHA256": base64_digest(part.sha256)} if is_checked else {}
    answer = s3.upload_part(**upload, PartNumber=part.number, Body=cast("IO[bytes]", part.body), **checksum)
    return {"PartNumber": part.number, "ETag": answer["ETag"], **checksum}


def _parts(parcel: Parcel) -> Iterator[_Part]:
    """Yield the file part by part; S3 can prove only these, so that they make up the whole is proven here."""
    whole = hashlib.sha256()
    for number, start in enumerate(range(0, parcel.bytes, PART_BYTES), start=1):
        length = min(PART_BYTES, parcel.bytes - start)
        digest = _digest(parcel.file, start, length, whole)
        parcel.file.seek(start)
        yield _Part(number, ReadFileChunk(parcel.file, length, parcel.bytes, enable_callbacks=False), digest)
    if whole.hexdigest() != parcel.sha256:
        raise UploadFailed("the temporary file is no longer what was verified", advice="A retry lands the image again.")


def _digest(file: IO[bytes], start: int, length: int, whole: Hash) -> str:
    """Return the SHA-256 of a stretch of a file, and feed it to that of the whole."""
    digest = hashlib.sha256()
    file.seek(start)
    while length and (piece := file.read(min(PIECE, length))):
        digest.update(piece)
        whole.update(piece)
        length -= len(piece)
    return digest.hexdigest()
