"""From an address, base64 or a decoded file to a verified S3 object.

The job calls :meth:`Landing.land` for every output. Nothing is put that was not verified, and no image is
ever whole in memory.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from airflow_provider_imagegen.connection import GatewaySettings
from airflow_provider_imagegen.effects import Effect, effect
from airflow_provider_imagegen.exceptions import DownloadFailed, NotAnImage, UploadFailed
from airflow_provider_imagegen.landing.destination import Destination
from airflow_provider_imagegen.landing.download import Downloader
from airflow_provider_imagegen.landing.finding import PIXELS, SHA256, TRACE_ID, find_image
from airflow_provider_imagegen.landing.objects import ObjectStore
from airflow_provider_imagegen.landing.pictures import VerifiedFile, decode_base64, verify
from airflow_provider_imagegen.schemas import ImageOutput, ImageTask, LandedImage, Manifest

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)


class Landing:
    """Fetches, verifies and puts images; an async context manager.

    :param s3: A boto3 S3 client; thread-safe, shared.
    :param destination: Where images go.
    :param settings: The gateway's connection, which knows where results may come from.
    :param metadata: User metadata of every object.
    """

    def __init__(
        self, s3: S3Client, destination: Destination, settings: GatewaySettings, metadata: Mapping[str, str]
    ) -> None:
        self.destination = destination
        self._s3 = s3
        self._store = ObjectStore(s3, destination)
        self._downloader = Downloader(settings)
        self._metadata = metadata

    async def __aenter__(self) -> Self:
        await self._downloader.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._downloader.__aexit__(kind, error, trace)

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

    async def find(self, trace_id: str, indices: Iterable[int]) -> tuple[LandedImage, ...]:
        """Return the images that a request generation has put, whether or not anybody noted it.

        :param trace_id: The trace id of the generation.
        :param indices: Positions among the images asked for.
        :raises UploadFailed: If S3 does not answer.
        """
        look = partial(find_image, self._s3, self.destination, trace_id)
        found = await asyncio.gather(*(asyncio.to_thread(look, index) for index in indices))
        return tuple(image for image in found if image is not None)

    async def put_manifest(self, manifest: Manifest) -> None:
        """Put the manifest beside the images.

        :raises UploadFailed: If S3 did not take it.
        """
        body = manifest.model_dump_json(indent=2).encode()
        with effect(Effect.PUT_MANIFEST):
            key = self.destination.key("manifest.json")
            await asyncio.to_thread(self._store.put, key, body, "application/json", {})

    async def _fetch(self, output: ImageOutput, file: IO[bytes]) -> None:
        if output.damage is not None:
            raise NotAnImage(output.damage)
        if output.url is not None:
            await self._downloader.fetch(output.url, file)
        elif output.b64_json is not None:
            await asyncio.to_thread(decode_base64, output.b64_json, file)

    def _put(self, verified: VerifiedFile, output: ImageOutput, index: int, task: ImageTask, name: str) -> LandedImage:
        key = self.destination.key(f"{name}.{verified.extension}")
        metadata = {
            **self._metadata,
            "task-id": task.task_id or "",
            TRACE_ID: task.trace_id or "",
            SHA256: verified.sha256,
            PIXELS: f"{verified.width}x{verified.height}",
        }
        with effect(Effect.PUT_IMAGE):
            stored = self._store.put(key, verified.file, verified.content_type, metadata)
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

    def _reuse(self, image: LandedImage) -> LandedImage | None:
        key = self.destination.key(image.key.rpartition("/")[2])
        if (image.bucket, image.key) == (self.destination.bucket, key):
            is_there = self._store.exists(image.bucket, image.key)
            return image.model_copy(update={"reused": True}) if is_there else None
        copied = self._store.copy(image.bucket, image.key, key)
        if copied is None:
            return None
        place = {"uri": self.destination.uri(key), "bucket": self.destination.bucket, "key": key}
        version = {"etag": copied["CopyObjectResult"]["ETag"].strip('"'), "version_id": copied.get("VersionId")}
        return image.model_copy(update={**place, **version, "reused": True})


def _place_for(output: ImageOutput) -> IO[bytes]:
    """Return the file an output already is, or an empty one to fetch it into."""
    return tempfile.TemporaryFile(prefix="imagegen-") if output.file is None else output.file.open("rb")
