"""A large object in parts, each with a SHA-256 that S3 checks; in its place only when it is whole.

Not boto3's ``upload_fileobj``: that takes no condition, returns neither ETag nor version, and holds ten parts in
memory. ``sending`` calls it for what one put should not carry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_imagegen.exceptions import UploadFailed
from airflow_provider_imagegen.landing.storing.parcel import Parcel, base64_digest
from airflow_provider_imagegen.s3_faults import S3_ERRORS

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PART_BYTES = 8 * 1024 * 1024
"""Bytes of one part, and of what is in memory at a time."""


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
        pieces = enumerate(_pieces(parcel), start=1)
        parts = [_put_part(s3, upload, number, piece, is_checked) for number, piece in pieces]
        whole: dict[str, Any] = {"MultipartUpload": {"Parts": parts}}
        return dict(s3.complete_multipart_upload(**upload, **whole, **condition))
    except BaseException:
        with suppress(*S3_ERRORS):
            s3.abort_multipart_upload(**upload)
        raise


def _put_part(s3: S3Client, upload: Mapping[str, Any], number: int, piece: bytes, is_checked: bool) -> dict[str, Any]:
    digest = base64_digest(hashlib.sha256(piece).hexdigest())
    checksum: dict[str, Any] = {"ChecksumSHA256": digest} if is_checked else {}
    answer = s3.upload_part(**upload, PartNumber=number, Body=piece, **checksum)
    return {"PartNumber": number, "ETag": answer["ETag"], **checksum}


def _pieces(parcel: Parcel) -> Iterator[bytes]:
    """Yield the file in pieces; S3 can prove only these, so that they make up the whole is proven here."""
    digest = hashlib.sha256()
    while piece := parcel.file.read(PART_BYTES):
        digest.update(piece)
        yield piece
    if digest.hexdigest() != parcel.sha256:
        raise UploadFailed("the temporary file is no longer what was verified", advice="A retry lands the image again.")
