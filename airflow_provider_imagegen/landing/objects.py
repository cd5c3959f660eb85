"""The S3 objects of one destination: what is put, copied, looked for and read, and with which options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_imagegen.exceptions import DestinationError, UploadFailed
from airflow_provider_imagegen.landing.destination import Destination
from airflow_provider_imagegen.landing.pictures import MAX_BYTES
from airflow_provider_imagegen.s3_faults import S3_ERRORS, is_not_there, words_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MAX_METADATA_VALUE = 200
"""Characters of one metadata value; S3 takes 2 KB of them in all."""


class ObjectStore:
    """Puts and copies objects under one destination. Blocking: call it from a thread.

    :param s3: A boto3 S3 client; thread-safe, shared.
    :param destination: Where objects go.
    """

    def __init__(self, s3: S3Client, destination: Destination) -> None:
        self._s3 = s3
        self._destination = destination

    def put(self, key: str, body: IO[bytes] | bytes, content_type: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Put one object.

        :return: S3's answer.
        :raises UploadFailed: If S3 did not take it.
        """
        # S3 user metadata travels as HTTP headers: ASCII only.
        ascii_metadata = {
            name: quote(value, safe=" /:+@=,;()[]")[:MAX_METADATA_VALUE] for name, value in metadata.items()
        }
        try:
            stored = self._s3.put_object(
                Bucket=self._destination.bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                Metadata=ascii_metadata,
                **self._protection(),
            )
            return dict(stored)
        except S3_ERRORS as error:
            raise UploadFailed(f"{self._destination.uri(key)} was not taken: {words_of(error)}") from None

    def exists(self, bucket: str, key: str) -> bool:
        """Return whether an object is there.

        :raises UploadFailed: If S3 does not answer.
        """
        try:
            self._s3.head_object(Bucket=bucket, Key=key)
        except S3_ERRORS as error:
            if is_not_there(error):
                return False
            raise UploadFailed(f"s3://{bucket}/{key} could not be reused: {words_of(error)}", billed="no") from None
        return True

    def copy(self, bucket: str, key: str, to_key: str) -> dict[str, Any] | None:
        """Copy an object from anywhere to a key of the destination.

        :return: S3's answer; ``None`` if there is no such object.
        :raises UploadFailed: If S3 did not do it.
        """
        try:
            copied = self._s3.copy_object(
                Bucket=self._destination.bucket,
                Key=to_key,
                CopySource={"Bucket": bucket, "Key": key},
                **self._protection(),
            )
        except S3_ERRORS as error:
            if is_not_there(error):
                return None
            raise UploadFailed(f"s3://{bucket}/{key} could not be reused: {words_of(error)}", billed="no") from None
        return dict(copied)

    def _protection(self) -> dict[str, Any]:
        protection: dict[str, Any] = {"ServerSideEncryption": "AES256"} if self._destination.encrypt else {}
        return protection | ({"ACL": self._destination.acl_policy} if self._destination.acl_policy else {})


def read_object(s3: S3Client, bucket: str, key: str) -> bytes:
    """Read an S3 object that a request needs, at most :data:`MAX_BYTES` of it.

    :raises DestinationError: If it is not there, not ours to read, or too large.
    """
    try:
        found = s3.get_object(Bucket=bucket, Key=key)
        if found["ContentLength"] > MAX_BYTES:
            raise DestinationError(f"s3://{bucket}/{key} has {found['ContentLength']} bytes, more than {MAX_BYTES}")
        return found["Body"].read()
    except S3_ERRORS as error:
        raise DestinationError(f"s3://{bucket}/{key} cannot be read: {words_of(error)}") from None
