"""The S3 objects of one destination: what is put, copied, looked for and read, and with which options."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Self

from airflow_provider_imagegen.exceptions import Billed, DestinationError, ObjectExists, UploadFailed
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.storage.errors import (
    S3_ERRORS,
    is_condition_failed,
    is_not_ours,
    is_not_there,
    words_of,
)
from airflow_provider_imagegen.storage.files import MAX_IMAGE_BYTES, VerifiedFile
from airflow_provider_imagegen.storage.options import header_text
from airflow_provider_imagegen.storage.upload import Upload, send

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MAX_METADATA_VALUE = 120
"""Bytes of one value of the provider's own metadata."""


@dataclass(frozen=True)
class Stored:
    """An object as it stands in S3.

    :param etag: Its ETag, without quotes.
    :param version_id: Its version, in a bucket that keeps versions.
    """

    etag: str
    version_id: str | None = None

    @classmethod
    def of(cls, response: Mapping[str, Any], etag: str) -> Self:
        """Return what S3 answered."""
        return cls(etag.strip('"'), response.get("VersionId"))


class ObjectStore:
    """Puts and copies objects under one destination. Blocking: call it from a thread.

    :param s3: A boto3 S3 client; thread-safe, shared.
    :param destination: Where objects go.
    """

    def __init__(self, s3: S3Client, destination: Destination) -> None:
        self._s3 = s3
        self._destination = destination
        self._options = destination.options

    def put(self, key: str, image: VerifiedFile, metadata: Mapping[str, str]) -> Stored:
        """Put one image; S3 compares what arrives with its SHA-256.

        :param metadata: What the provider notes about it.
        :return: The object, also if a try before this one put it.
        :raises ObjectExists: If something else is there and is not to be replaced.
        :raises UploadFailed: If S3 did not take it.
        """
        arguments = self._arguments(key, image.content_type, metadata)
        if image.content_disposition:
            arguments["ContentDisposition"] = image.content_disposition
        upload = Upload(file=image.file, bytes=image.bytes, sha256=image.sha256, arguments=arguments)
        if self._options.replace:
            return self._send(key, upload, is_conditional=False)
        return self._landed_before(key, image.sha256) or self._send(key, upload, is_conditional=True)

    def put_document(self, key: str, body: bytes, content_type: str) -> Stored:
        """Put a document about the images, in place of any that was there.

        :raises UploadFailed: If S3 did not take it.
        """
        return self.put_file(key, io.BytesIO(body), content_type)

    def put_file(
        self, key: str, file: IO[bytes], content_type: str, metadata: Mapping[str, str] = MappingProxyType({})
    ) -> Stored:
        """Put a document that is too long to be held in memory, in place of any that was there.

        :param file: Its content, from start to end.
        :param metadata: Whose it is.
        :raises UploadFailed: If S3 did not take it.
        """
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        arguments = self._arguments(key, content_type, metadata)
        upload = Upload(file=file, bytes=length, sha256=digest, arguments=arguments)
        return self._send(key, upload, is_conditional=False)

    def taken(self, names: Iterable[str]) -> list[str]:
        """Return the keys at which images of these names would meet something that is there already.

        :raises DestinationError: If the bucket does not show them to these credentials.
        :raises UploadFailed: If S3 does not answer.
        """
        try:
            return [key for name in names for key in self._keys_of(name)]
        except S3_ERRORS as error:
            place = self._destination.uri(self._destination.prefix)
            if is_not_ours(error):
                raise DestinationError(f"{place} cannot be listed, as replace=False needs: {words_of(error)}") from None
            raise UploadFailed(f"{place} could not be listed: {words_of(error)}", billed="no") from None

    def holds(self, bucket: str, key: str, sha256: str) -> bool:
        """Return whether an object is there and still the image that was put.

        :raises UploadFailed: If S3 does not answer.
        """
        try:
            return self._version_of(bucket, key, sha256) is not None
        except S3_ERRORS as error:
            raise UploadFailed(f"s3://{bucket}/{key} could not be reused: {words_of(error)}", billed="no") from None

    def _version_of(self, bucket: str, key: str, sha256: str) -> str | None:
        """Return the ETag of an image; ``None`` if it is gone, or something else is in its place."""
        try:
            found = self._s3.head_object(Bucket=bucket, Key=key)
        except S3_ERRORS as error:
            if is_not_there(error):
                return None
            raise
        return found["ETag"] if found["Metadata"].get("sha256") == sha256 else None

    def copy(self, bucket: str, key: str, to_key: str, sha256: str) -> Stored | None:
        """Copy an image from anywhere to a key of the destination.

        :param sha256: Its digest, by which an earlier copy of it is known.
        :return: The copy; ``None`` if the image is gone, or something else is in its place.
        :raises ObjectExists: If something else is there and is not to be replaced.
        :raises UploadFailed: If S3 did not do it.
        """
        source: Any = {"Bucket": bucket, "Key": key}
        try:
            version = self._version_of(bucket, key, sha256)
            if version is None:
                return None
            if not self._options.replace and (stored := self._landed_before(to_key, sha256, billed="no")):
                return stored
            copied = self._s3.copy_object(
                Bucket=self._destination.bucket,
                Key=to_key,
                CopySource=source,
                CopySourceIfMatch=version,
                **self._copy_condition(),
                **self._copy_options(source),
            )
        except S3_ERRORS as error:
            if is_condition_failed(error) and self.holds(bucket, key, sha256):
                return self._landed_before(to_key, sha256, billed="no")
            if is_not_there(error) or is_condition_failed(error):
                return None
            raise UploadFailed(f"s3://{bucket}/{key} could not be reused: {words_of(error)}", billed="no") from None
        return Stored.of(copied, copied["CopyObjectResult"]["ETag"])

    def _arguments(self, key: str, content_type: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        own = {name: _short_header_text(value) for name, value in metadata.items()}
        place = {"Bucket": self._destination.bucket, "Key": key}
        return {**place, "ContentType": content_type, "Metadata": self._further() | own, **self._options.arguments()}

    def _further(self) -> dict[str, str]:
        return {name: header_text(value) for name, value in self._options.metadata.items()}

    def _send(self, key: str, upload: Upload, *, is_conditional: bool) -> Stored:
        try:
            response = send(self._s3, upload, is_conditional=is_conditional)
        except S3_ERRORS as error:
            if is_condition_failed(error) and (stored := self._landed_before(key, upload.sha256)):
                return stored
            raise UploadFailed(f"{self._destination.uri(key)} was not taken: {words_of(error)}") from None
        return Stored.of(response, response["ETag"])

    def _landed_before(self, key: str, sha256: str, billed: Billed = "yes") -> Stored | None:
        """Return an object if it is the image that is to be put; ``None`` if there is none, or none to be seen."""
        try:
            found = self._s3.head_object(Bucket=self._destination.bucket, Key=key)
        except S3_ERRORS as error:
            # Who may put but not look gets 403; then the condition of the put decides.
            if is_not_ours(error):
                return None
            what = f"{self._destination.uri(key)} could not be looked at: {words_of(error)}"
            raise UploadFailed(what, billed=billed) from None
        if found["Metadata"].get("sha256") != sha256:
            raise ObjectExists(f"{self._destination.uri(key)} is there already, and replace is False", billed=billed)
        return Stored.of(found, found["ETag"])

    def _keys_of(self, name: str) -> list[str]:
        start = self._destination.key(f"{name}.")
        found = self._s3.list_objects_v2(Bucket=self._destination.bucket, Prefix=start)
        return [entry["Key"] for entry in found.get("Contents", [])]

    def _copy_condition(self) -> dict[str, Any]:
        """Return the condition under which a copy takes its place, where this boto3 knows one."""
        known = self._s3.meta.service_model.operation_model("CopyObject").input_shape
        is_known = known is not None and "IfNoneMatch" in known.members
        return {"IfNoneMatch": "*"} if is_known and not self._options.replace else {}

    def _copy_options(self, source: Mapping[str, str]) -> dict[str, Any]:
        """Return the options of a copy; S3 takes those that are missing from the source."""
        options = self._options.arguments()
        if "Tagging" in options:
            options["TaggingDirective"] = "REPLACE"
        if not (self._options.cache_control or self._options.metadata):
            return options
        found = self._s3.head_object(Bucket=source["Bucket"], Key=source["Key"])
        taken_over = {"ContentType", "CacheControl", "ContentDisposition"} & found.keys()
        headers: dict[str, Any] = {name: found[name] for name in taken_over}  # type: ignore[literal-required]
        metadata = {"Metadata": found["Metadata"] | self._further(), "MetadataDirective": "REPLACE"}
        return headers | options | metadata


def read_object(s3: S3Client, bucket: str, key: str) -> bytes:
    """Read an S3 object that a request needs, at most :data:`MAX_IMAGE_BYTES` of it.

    :raises DestinationError: If it is not there, not ours to read, or too large.
    """
    try:
        found = s3.get_object(Bucket=bucket, Key=key)
        if found["ContentLength"] > MAX_IMAGE_BYTES:
            raise DestinationError(
                f"s3://{bucket}/{key} has {found['ContentLength']} bytes, more than {MAX_IMAGE_BYTES}"
            )
        return found["Body"].read()
    except S3_ERRORS as error:
        raise DestinationError(f"s3://{bucket}/{key} cannot be read: {words_of(error)}") from None


def _short_header_text(value: str) -> str:
    value = value[:MAX_METADATA_VALUE]
    while len(text := header_text(value)) > MAX_METADATA_VALUE:
        value = value[:-1]
    return text
