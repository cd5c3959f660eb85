"""From an address or base64 to verified bytes in a temporary file to an S3 object.

The job calls :meth:`Landing.land` for every output. Nothing is put that was not verified, and no image is
ever whole in memory.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from PIL import Image, UnidentifiedImageError

from airflow_provider_imagegen.answer_body import MAX_IMAGE_BYTES
from airflow_provider_imagegen.client import CONNECT_TIMEOUT, quiet_httpx, tls_context
from airflow_provider_imagegen.connection import GatewaySettings
from airflow_provider_imagegen.effects import Effect, effect
from airflow_provider_imagegen.exceptions import (
    DestinationError,
    DownloadFailed,
    InvalidRequest,
    NotAnImage,
    ResultExpired,
    UploadFailed,
)
from airflow_provider_imagegen.redaction import address_of, redacted
from airflow_provider_imagegen.schemas import ImageOutput, ImageTask, LandedImage, Manifest

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)

MAX_BYTES = MAX_IMAGE_BYTES
"""Largest image that is fetched."""
MAX_PIXELS = 80_000_000
"""Largest image that is accepted; the largest known model makes 8 294 400 pixels."""
MAX_PREFIX_BYTES = 900
"""Longest key prefix; S3 takes keys of 1024 bytes."""
MAX_METADATA_VALUE = 200
"""Characters of one metadata value; S3 takes 2 KB of them in all."""
PIECE = 64 * 1024
DOWNLOAD_TIMEOUT = 60.0
"""Seconds a result host may stay silent."""

_MEDIA_TYPES = {
    "PNG": ("image/png", "png"),
    "JPEG": ("image/jpeg", "jpg"),
    "WEBP": ("image/webp", "webp"),
    "GIF": ("image/gif", "gif"),
}


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


@dataclass(frozen=True)
class VerifiedFile:
    """An image in a temporary file, proven to be one.

    :param file: The open file, at its start.
    """

    file: IO[bytes]
    bytes: int
    sha256: str
    content_type: str
    extension: str
    width: int
    height: int


class Landing:
    """Fetches, verifies and puts images; an async context manager.

    :param s3: A boto3 S3 client; thread-safe, shared.
    :param destination: Where images go.
    :param settings: The gateway's connection: its TLS settings count for result hosts too, its token does
        not go there.
    :param metadata: User metadata of every object.
    """

    def __init__(
        self,
        s3: S3Client,
        destination: Destination,
        settings: GatewaySettings,
        metadata: Mapping[str, str],
    ) -> None:
        self.destination = destination
        self._s3 = s3
        self._settings = settings
        self._metadata = metadata
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(
            verify=tls_context(self._settings.verify),
            timeout=httpx.Timeout(DOWNLOAD_TIMEOUT, connect=CONNECT_TIMEOUT),
            follow_redirects=True,
            max_redirects=3,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def land(self, output: ImageOutput, index: int, task: ImageTask, name: str | None = None) -> LandedImage:
        """Bring one image to S3.

        :param output: Where the image is, or what it is.
        :param index: Position among the images asked for.
        :param name: File name of the object, without extension; by default the index.
        :param task: The task it came from.
        :raises DownloadFailed: If it could not be fetched whole.
        :raises NotAnImage: If the bytes are no acceptable picture.
        :raises UploadFailed: If S3 did not take it.
        """
        with _place_for(output) as file:
            try:
                await self._fetch(output, file)
                verified = await asyncio.to_thread(verify, file)
                return await asyncio.to_thread(self._put, verified, output, index, task, name or str(index))
            except (DownloadFailed, NotAnImage, UploadFailed) as error:
                error.task_id, error.trace_id = task.task_id, task.trace_id
                raise

    async def land_previews(self, task: ImageTask, index: int) -> None:
        """Land streamed previews as ``<index>.preview-<number>.<ext>``, in order of their making.

        :raises LandingError: As :meth:`land` does.
        """
        for number, preview in enumerate(task.previews):
            image = await self.land(preview, index, task, name=f"{index}.preview-{number}")
            log.info("Landed preview %d of image %d: %s", number, index, image.uri)

    async def reuse(self, image: LandedImage) -> LandedImage | None:
        """Hand out an image that landed before: where it is, or copied to where it is wanted now.

        :param image: As it landed.
        :return: The image under this destination, marked as reused; ``None`` if it is no longer in S3.
        :raises UploadFailed: If S3 does not answer.
        """
        return await asyncio.to_thread(self._reuse, image)

    async def put_manifest(self, manifest: Manifest) -> None:
        """Put the manifest beside the images.

        :raises UploadFailed: If S3 did not take it.
        """
        body = manifest.model_dump_json(indent=2).encode()
        with effect(Effect.PUT_MANIFEST):
            key = self.destination.key("manifest.json")
            await asyncio.to_thread(self._put_object, key, body, "application/json", {})

    def _reuse(self, image: LandedImage) -> LandedImage | None:
        name = image.key.rpartition("/")[2]
        key = self.destination.key(name)
        try:
            if (image.bucket, image.key) == (self.destination.bucket, key):
                self._s3.head_object(Bucket=image.bucket, Key=image.key)
                return image.model_copy(update={"reused": True})
            copied = self._s3.copy_object(
                Bucket=self.destination.bucket,
                Key=key,
                CopySource={"Bucket": image.bucket, "Key": image.key},
                **self._protection(),
            )
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in {"404", "NoSuchKey"}:
                return None
            raise UploadFailed(f"{image.uri} could not be reused: {_s3_words(error)}", billed="no") from None
        place = {"uri": self.destination.uri(key), "bucket": self.destination.bucket, "key": key}
        version = {"etag": copied["CopyObjectResult"]["ETag"].strip('"'), "version_id": copied.get("VersionId")}
        return image.model_copy(update={**place, **version, "reused": True})

    def _protection(self) -> dict[str, Any]:
        protection: dict[str, Any] = {"ServerSideEncryption": "AES256"} if self.destination.encrypt else {}
        return protection | ({"ACL": self.destination.acl_policy} if self.destination.acl_policy else {})

    async def _fetch(self, output: ImageOutput, file: IO[bytes]) -> None:
        if output.damage is not None:
            raise NotAnImage(output.damage)
        if output.url is not None:
            await self._download(output.url, file)
        elif output.b64_json is not None:
            await asyncio.to_thread(decode_base64, output.b64_json, file)

    async def _download(self, url: str, file: IO[bytes]) -> None:
        if self._http is None:
            raise RuntimeError("Landing is used outside its 'async with' block")
        try:
            with quiet_httpx():
                async with self._http.stream("GET", url) as response:
                    await self._receive(response, url, file)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            words = redacted(f"{type(error).__name__} {error}")
            raise DownloadFailed(f"{address_of(url)} could not be fetched: {words}") from None

    async def _receive(self, response: httpx.Response, url: str, file: IO[bytes]) -> None:
        if response.status_code in {403, 404, 410}:
            raise ResultExpired(f"{address_of(url)} answered {response.status_code}")
        if not response.is_success:
            raise DownloadFailed(f"{address_of(url)} answered {response.status_code}")
        received = 0
        async for piece in response.aiter_bytes(PIECE):
            received += len(piece)
            if received > MAX_BYTES:
                raise NotAnImage(f"{address_of(url)} sends more than {MAX_BYTES} bytes")
            # A local temporary file takes 64 KB faster than a hop to a thread costs.
            file.write(piece)

    def _put(self, verified: VerifiedFile, output: ImageOutput, index: int, task: ImageTask, name: str) -> LandedImage:
        key = self.destination.key(f"{name}.{verified.extension}")
        metadata = {**self._metadata, "task-id": task.task_id or "", "sha256": verified.sha256}
        with effect(Effect.PUT_IMAGE):
            stored = self._put_object(key, verified.file, verified.content_type, metadata)
        return LandedImage(
            index=index,
            uri=self.destination.uri(key),
            bucket=self.destination.bucket,
            key=key,
            etag=stored["ETag"].strip('"'),
            version_id=stored.get("VersionId"),
            bytes=verified.bytes,
            sha256=verified.sha256,
            content_type=verified.content_type,
            width=verified.width,
            height=verified.height,
            task_id=task.task_id,
            trace_id=task.trace_id,
            revised_prompt=output.revised_prompt,
        )

    def _put_object(
        self, key: str, body: IO[bytes] | bytes, content_type: str, metadata: Mapping[str, str]
    ) -> dict[str, Any]:
        # S3 user metadata travels as HTTP headers: ASCII only.
        ascii_metadata = {
            name: quote(value, safe=" /:+@=,;()[]")[:MAX_METADATA_VALUE] for name, value in metadata.items()
        }
        try:
            stored = self._s3.put_object(
                Bucket=self.destination.bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                Metadata=ascii_metadata,
                **self._protection(),
            )
            return dict(stored)
        except (BotoCoreError, ClientError) as error:
            raise UploadFailed(f"{self.destination.uri(key)} was not taken: {_s3_words(error)}") from None


def _place_for(output: ImageOutput) -> IO[bytes]:
    """Return the file an output already is, or an empty one to fetch it into."""
    return tempfile.TemporaryFile(prefix="imagegen-") if output.file is None else output.file.open("rb")


def decode_base64(text: str, file: IO[bytes]) -> None:
    """Decode base64 into a file, piece by piece.

    :raises NotAnImage: If the text is not base64, or decodes to more than :data:`MAX_BYTES`.
    """
    if len(text) // 4 * 3 > MAX_BYTES:
        raise NotAnImage(f"the answer holds more than {MAX_BYTES} bytes of base64")
    try:
        for start in range(0, len(text), PIECE):
            file.write(base64.b64decode(text[start : start + PIECE], validate=True))
    except (binascii.Error, ValueError) as error:
        raise NotAnImage(f"the answer's b64_json is not base64: {error}") from None


def verify(file: IO[bytes]) -> VerifiedFile:
    """Prove that a file holds one acceptable picture, by its bytes alone.

    Only the header is decoded, so a decompression bomb stays packed.

    :param file: The file; left at its start.
    :raises NotAnImage: If it is none, is cut off, or has too many pixels.
    """
    digest, size = _digest(file)
    _check_end(file)
    file.seek(0)
    try:
        with Image.open(file, formats=list(_MEDIA_TYPES)) as image:
            kind, (width, height) = image.format or "", image.size
            if width * height > MAX_PIXELS:
                raise NotAnImage(f"the picture has {width}x{height} pixels, more than {MAX_PIXELS}")
            image.verify()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        words = redacted(f"{type(error).__name__} {error}")
        raise NotAnImage(f"{size} bytes are not a whole png, jpeg, webp or gif picture: {words}") from None
    file.seek(0)
    content_type, extension = _MEDIA_TYPES[kind]
    return VerifiedFile(file, size, digest, content_type, extension, width, height)


def _check_end(file: IO[bytes]) -> None:
    """Refuse a JPEG or GIF that is cut off, which Pillow's own check does not notice.

    Some encoders pad their files, so the end mark may have a little behind it. In a JPEG's data the mark
    cannot occur by chance.
    """
    file.seek(0)
    head = file.read(4)
    file.seek(-min(1024, file.seek(0, 2)), 2)
    tail = file.read()
    is_cut = (head.startswith(b"\xff\xd8\xff") and b"\xff\xd9" not in tail) or (
        head == b"GIF8" and not tail.rstrip(b"\0").endswith(b"\x3b")
    )
    if is_cut:
        raise NotAnImage("the picture is cut off: its end mark is missing")


def read_object(s3: S3Client, bucket: str, key: str) -> bytes:
    """Read an S3 object that a request needs, at most :data:`MAX_BYTES` of it.

    :raises DestinationError: If it is not there, not ours to read, or too large.
    """
    try:
        found = s3.get_object(Bucket=bucket, Key=key)
        if found["ContentLength"] > MAX_BYTES:
            raise DestinationError(f"s3://{bucket}/{key} has {found['ContentLength']} bytes, more than {MAX_BYTES}")
        return found["Body"].read()
    except (BotoCoreError, ClientError) as error:
        raise DestinationError(f"s3://{bucket}/{key} cannot be read: {_s3_words(error)}") from None


def _digest(file: IO[bytes]) -> tuple[str, int]:
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while piece := file.read(PIECE):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _s3_words(error: BotoCoreError | ClientError) -> str:
    if isinstance(error, ClientError):
        answer = error.response.get("Error", {})
        code = str(answer.get("Code", "error"))
        meaning = {
            "404": "there is no such bucket",
            "403": "access denied",
            "NoSuchBucket": "there is no such bucket",
        }
        return redacted(f"{meaning.get(code, answer.get('Message', ''))} ({code})")
    return redacted(str(error))
