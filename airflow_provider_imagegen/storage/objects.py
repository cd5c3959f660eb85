"""The S3 objects of one destination: what is put, copied, looked for and read, and with which options.

An image says in its metadata which request generation it is from, and has its SHA-256 there: so an image that a try put
before it died is found again, and never taken for another one. The ETag would not do: with multipart puts and KMS it
is no digest of the content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from airflow_provider_imagegen.exceptions import Billed, DestinationError, ObjectExists, UploadFailed
from airflow_provider_imagegen.storage import errors
from airflow_provider_imagegen.storage.client import put_checked
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.storage.errors import S3_ERRORS, words_of
from airflow_provider_imagegen.storage.options import header_text
from airflow_provider_imagegen.storage.tempfiles import MAX_IMAGE_BYTES, SVG, VerifiedFile

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MAX_METADATA_VALUE = 120
"""Bytes of one value of the provider's own metadata."""
TRACE_ID = "trace-id"
SHA256 = "sha256"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object as it stands in S3; its ETag is without quotes."""

    key: str
    etag: str
    version_id: str | None
    bytes: int
    content_type: str
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, key: str, head: Mapping[str, Any]) -> Self:
        """Return what S3 says about an object."""
        return cls(
            key=key,
            etag=head["ETag"].strip('"'),
            version_id=head.get("VersionId"),
            bytes=head["ContentLength"],
            # Not every store answers with it, and the objects of strangers may have none.
            content_type=head.get("ContentType", ""),
            metadata={name: unquote(value) for name, value in head["Metadata"].items()},
        )


class ObjectStore:
    """Puts and copies objects under one destination. Blocking: call it from a thread."""

    def __init__(self, s3: S3Client, destination: Destination) -> None:
        self._s3 = s3
        self._destination = destination
        self._options = destination.options

    def put(self, key: str, image: VerifiedFile, metadata: Mapping[str, str]) -> Stored:
        """Put one image, or find what a try before this one put; S3 compares what arrives with its SHA-256."""
        arguments = self._arguments(key, image.content_type, metadata)
        if image.content_type == SVG:
            # It can hold scripts, which a browser that shows it would run in the bucket's origin.
            arguments["ContentDisposition"] = "attachment"
        # Looking first says what is in the way; the condition decides, for somebody may put it there in between.
        head = None if self._options.replace else self._landed_before(key, image.sha256)
        if head is None:
            head = self._send(image.file, image.sha256, arguments, is_conditional=not self._options.replace)
        facts = {"ContentLength": image.bytes, "ContentType": image.content_type, "Metadata": {}}
        return replace(Stored.of(key, {**head, **facts}), metadata=metadata)

    def put_file(
        self, key: str, file: IO[bytes], content_type: str, metadata: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        """Put a whole document about the images, in place of any that was there; return its SHA-256."""
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        # Whatever replace says: a document about the images of an earlier try would be wrong.
        arguments = self._arguments(key, content_type, {**metadata, SHA256: digest})
        self._send(file, digest, arguments, is_conditional=False)
        return digest

    def taken(self, names: Iterable[str]) -> list[str]:
        """Return the keys at which images of these names would meet something that is there already."""
        try:
            return [key for name in names for key in self._keys_of(name)]
        except S3_ERRORS as error:
            place = self._destination.uri(self._destination.prefix)
            if errors.is_not_ours(error):
                raise DestinationError(f"{place} cannot be listed, as replace=False needs: {words_of(error)}") from None
            raise UploadFailed(f"{place} could not be listed: {words_of(error)}", billed="no") from None

    def find(self, trace_id: str, name: str) -> Stored | None:
        """Return the image that a request generation put under a name; ``None`` if there is none."""
        start = self._destination.key(f"{name}.")
        try:
            # A preview is called <name>.preview-<number>.<ext>: it was not paid for, and stands for no image.
            keys = [key for key in self._keys_of(name) if "." not in key.removeprefix(start)]
            heads = [Stored.of(key, self._s3.head_object(Bucket=self._destination.bucket, Key=key)) for key in keys]
        except S3_ERRORS as error:
            raise UploadFailed(f"{self._destination.uri(start)}* cannot be looked for: {words_of(error)}") from None
        return next((stored for stored in heads if stored.metadata.get(TRACE_ID) == trace_id), None)

    def holds(self, key: str, sha256: str) -> bool:
        """Return whether an object is there and still the image that was put."""
        try:
            return self._head(key, sha256) is not None
        except S3_ERRORS as error:
            raise self._not_reused(key, error) from None

    def copy(self, key: str, to_key: str, sha256: str) -> Stored | None:
        """Copy an image of the same bucket to a key; ``None`` if it is gone, or something else is in its place."""
        try:
            head = self._head(key, sha256)
            if head is None:
                return None
            there = None if self._options.replace else self._landed_before(to_key, sha256, billed="no")
            return Stored.of(to_key, there or self._copy(key, head, to_key))
        except S3_ERRORS as error:
            # Either condition may have failed, that of the source or that of the target: looking tells.
            if errors.is_condition_failed(error) and self.holds(key, sha256):
                there = self._landed_before(to_key, sha256, billed="no")
                return Stored.of(to_key, there) if there else None
            if errors.is_not_there(error) or errors.is_condition_failed(error):
                return None
            raise self._not_reused(key, error) from None

    def _copy(self, key: str, head: Mapping[str, Any], to_key: str) -> Mapping[str, Any]:
        bucket = self._destination.bucket
        copied = self._s3.copy_object(
            Bucket=bucket,
            Key=to_key,
            CopySource={"Bucket": bucket, "Key": key},
            # What was looked at: the source may be replaced between the two requests.
            CopySourceIfMatch=head["ETag"],
            **self._copy_condition(),
            **self._copy_options(head),
        )
        return {**head, "ETag": copied["CopyObjectResult"]["ETag"], "VersionId": copied.get("VersionId")}

    def _copy_condition(self) -> dict[str, Any]:
        """Return the condition under which a copy takes its place, where this boto3 knows one."""
        known = self._s3.meta.service_model.operation_model("CopyObject").input_shape
        is_known = known is not None and "IfNoneMatch" in known.members
        return {"IfNoneMatch": "*"} if is_known and not self._options.replace else {}

    def _copy_options(self, head: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a copy; S3 takes those that are missing from the source."""
        options = self._options.arguments()
        if "Tagging" in options:
            options["TaggingDirective"] = "REPLACE"
        if not (self._options.cache_control or self._options.metadata):
            return options
        # S3 replaces all headers and metadata or none: what is to stay must be said again.
        headers = {name: head[name] for name in ("ContentType", "CacheControl", "ContentDisposition") if name in head}
        metadata = {"Metadata": head["Metadata"] | self._further(), "MetadataDirective": "REPLACE"}
        return headers | options | metadata

    def _arguments(self, key: str, content_type: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        own = {name: _short_header_text(value) for name, value in metadata.items()}
        place = {"Bucket": self._destination.bucket, "Key": key}
        return {**place, "ContentType": content_type, "Metadata": self._further() | own, **self._options.arguments()}

    def _further(self) -> dict[str, str]:
        return {name: header_text(value) for name, value in self._options.metadata.items()}

    def _send(
        self, file: IO[bytes], sha256: str, arguments: dict[str, Any], *, is_conditional: bool
    ) -> Mapping[str, Any]:
        try:
            return self._send_protected(file, sha256, arguments, is_conditional)
        except S3_ERRORS as error:
            # Botocore repeats a put whose response was lost, and then meets what the first one put.
            if errors.is_condition_failed(error) and (head := self._landed_before(arguments["Key"], sha256)):
                return head
            uri = self._destination.uri(arguments["Key"])
            raise UploadFailed(f"{uri} was not taken: {words_of(error)}") from None

    def _send_protected(
        self, file: IO[bytes], sha256: str, arguments: dict[str, Any], is_conditional: bool
    ) -> Mapping[str, Any]:
        """Put an object with as much protection as the store knows."""
        condition = {"IfNoneMatch": "*"} if is_conditional else {}
        try:
            return put_checked(self._s3, file, sha256, **arguments, **condition)
        except S3_ERRORS as error:
            if not (is_conditional and errors.is_unknown_to_store(error)):
                raise
        return put_checked(self._s3, file, sha256, **arguments)

    def _landed_before(self, key: str, sha256: str, billed: Billed = "yes") -> Mapping[str, Any] | None:
        """Return an object if it is the image that is to be put; ``None`` if there is none, or none to be seen."""
        uri = self._destination.uri(key)
        try:
            head = self._s3.head_object(Bucket=self._destination.bucket, Key=key)
        except S3_ERRORS as error:
            # Who may put but not look gets 403; then the condition of the put decides.
            if errors.is_not_ours(error):
                return None
            raise UploadFailed(f"{uri} could not be looked at: {words_of(error)}", billed=billed) from None
        if head["Metadata"].get(SHA256) != sha256:
            raise ObjectExists(f"{uri} is there already, and replace is False", billed=billed)
        return head

    def _head(self, key: str, sha256: str) -> Mapping[str, Any] | None:
        """Return what S3 says about an image; ``None`` if it is gone, or something else is in its place."""
        try:
            head = self._s3.head_object(Bucket=self._destination.bucket, Key=key)
        except S3_ERRORS as error:
            if errors.is_not_there(error):
                return None
            raise
        return head if head["Metadata"].get(SHA256) == sha256 else None

    def _keys_of(self, name: str) -> list[str]:
        start = self._destination.key(f"{name}.")
        found = self._s3.list_objects_v2(Bucket=self._destination.bucket, Prefix=start)
        return [entry["Key"] for entry in found.get("Contents", [])]

    def _not_reused(self, key: str, error: BaseException) -> UploadFailed:
        return UploadFailed(f"{self._destination.uri(key)} could not be reused: {words_of(error)}", billed="no")


def read_object(s3: S3Client, bucket: str, key: str) -> bytes:
    """Read an S3 object that a request needs, at most :data:`MAX_IMAGE_BYTES` of it."""
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
    # Characters are cut off, not bytes of their encoding: half an escape could not be read back.
    while len(text := header_text(value)) > MAX_METADATA_VALUE:
        value = value[:-1]
    return text
