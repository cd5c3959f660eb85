"""From an address or a decoded file to a verified S3 object; no image is ever whole in memory."""

from __future__ import annotations

import asyncio
import io
import logging
import tempfile
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Self

from airflow_provider_imagegen.exceptions import LandingError, LedgerCorrupt, NotAnImage, ObjectExists
from airflow_provider_imagegen.failpoints import Failpoint, failpoint
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing.download.download import Downloader
from airflow_provider_imagegen.landing.provenance import AiMark, mark_as_ai_made
from airflow_provider_imagegen.landing.verify import verify
from airflow_provider_imagegen.schemas import ImageOutput, ImageTask, LandedImage, Sidecar
from airflow_provider_imagegen.schemas.base import time_now
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.storage.objects import SHA256, TRACE_ID, ObjectStore, Stored
from airflow_provider_imagegen.storage.tempfiles import VerifiedFile, temp_file_errors

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)

CREATED_AT = "created-at"
PIXELS = "pixels"
TASK_ID = "task-id"


@dataclass(frozen=True, kw_only=True)
class ImageProcessing:
    """What an image goes through between its arrival and its put.

    :param svg: Whether svg is accepted too; it may hold scripts, and is served as an attachment.
    """

    svg: bool = False
    provenance: bool = False
    model: str | None = None


class Landing:
    """Fetches, verifies and puts images; an async context manager."""

    def __init__(
        self,
        s3: S3Client,
        destination: Destination,
        settings: GatewaySettings,
        metadata: Mapping[str, str],
        processing: ImageProcessing | None = None,
    ) -> None:
        self.destination = destination
        self._store = ObjectStore(s3, destination)
        self._downloader = Downloader(settings)
        self._metadata = metadata
        self._processing = processing or ImageProcessing()

    async def __aenter__(self) -> Self:
        await self._downloader.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._downloader.__aexit__()

    async def land(self, output: ImageOutput, index: int, task: ImageTask, name: str) -> LandedImage:
        """Bring one image to S3, under a file name without extension."""
        try:
            with temp_file_errors(), _file_for(output) as file:
                await self._fetch(output, file)
                with tempfile.TemporaryFile(prefix="imagegen-") as marked:
                    verified, mark = await asyncio.to_thread(self._process, file, marked)
                    image = await asyncio.to_thread(self._put, verified, output, index, task, name)
            return image.model_copy(update={"provenance": mark})
        except LandingError as error:
            # The image is paid for: whoever reads the error needs the ids to find it at the gateway.
            error.task_id, error.trace_id = task.task_id, task.trace_id
            raise

    async def land_previews(self, task: ImageTask, index: int, name: str) -> None:
        """Land streamed previews as ``<name>.preview-<number>.<ext>``, in order of their making."""
        for number, preview in enumerate(task.previews):
            image = await self.land(preview, index, task, f"{name}.preview-{number}")
            log.info("Landed preview %d of image %d: %s", number, index, image.uri)

    async def reuse(self, image: LandedImage, name: str) -> LandedImage | None:
        """Hand out an image that landed before, or a copy where it is wanted now; ``None`` if it is gone from S3."""
        return await asyncio.to_thread(self._reuse, image, name)

    async def find(self, trace_id: str, names: Mapping[int, str]) -> tuple[LandedImage, ...]:
        """Return the images that a request generation has put under these names, whether or not anybody noted it."""
        look = partial(self._store.find, trace_id)
        found = await asyncio.gather(*(asyncio.to_thread(look, name) for name in names.values()))
        pairs = zip(names, found, strict=True)
        return tuple(self._landed(stored, index) for index, stored in pairs if stored is not None)

    async def check_free(self, names: Iterable[str]) -> None:
        """Refuse to go on if images of these names would replace what may not be replaced; before paying."""
        if self.destination.options.replace:
            return
        if taken := await asyncio.to_thread(self._store.taken, names):
            words = f"{self.destination.uri(taken[0])} is there already, and replace is False"
            raise ObjectExists(words, billed="no", advice="Choose another s3_key, or pass replace=True.")

    async def put_sidecar(self, sidecar: Sidecar) -> None:
        """Put the manifest, with where all of it comes from, beside the images."""
        body = io.BytesIO(sidecar.model_dump_json(indent=2).encode())
        with failpoint(Failpoint.PUT_MANIFEST):
            await asyncio.to_thread(self._store.put_file, self.destination.manifest_key, body, "application/json")

    async def put_lines(self, name: str, lines: IO[bytes]) -> tuple[str, str]:
        """Put a file of JSON lines beside the images; return its address and SHA-256."""
        key = self.destination.key(name)
        with failpoint(Failpoint.PUT_MANIFEST):
            digest = await asyncio.to_thread(self._store.put_file, key, lines, "application/jsonl", self._metadata)
        return self.destination.uri(key), digest

    def for_request(self, model: str | None, fingerprint: str) -> Landing:
        """Return this landing as it tells objects of another request; connections and limits are shared."""
        # Not a new one: a batch of a thousand requests must share one limit on downloads and one pool.
        other = copy(self)
        other._metadata = {**self._metadata, "model": model or "", "fingerprint": fingerprint}
        other._processing = replace(self._processing, model=model)
        return other

    async def _fetch(self, output: ImageOutput, file: IO[bytes]) -> None:
        if output.damage is not None:
            # Found by the client; raised only here, so that the other images of the response land.
            raise NotAnImage(output.damage)
        if output.url is not None:
            await self._downloader.fetch(output.url, file)

    def _process(self, file: IO[bytes], marked: IO[bytes]) -> tuple[VerifiedFile, str | None]:
        """Verify an image and mark it as AI-made if that was asked for; return what to put, and the mark's fate."""
        verified = verify(file, svg=self._processing.svg)
        if not self._processing.provenance:
            return verified, None
        mark = mark_as_ai_made(file, marked, verified.content_type, self._processing.model)
        if mark is not AiMark.ADDED:
            return verified, str(mark)
        try:
            # Proven again: the digest in the manifest must be that of the bytes that are put.
            return verify(marked), str(mark)
        except NotAnImage as error:
            # The image was fine; the mark has made it one part too many.
            log.warning("The mark for AI-made images was left out: %s", error)
            file.seek(0)
            return verified, str(AiMark.UNSUPPORTED)

    def _put(self, verified: VerifiedFile, output: ImageOutput, index: int, task: ImageTask, name: str) -> LandedImage:
        key = self.destination.key(f"{name}.{verified.extension}")
        metadata = {
            **self._metadata,
            TASK_ID: task.task_id or "",
            TRACE_ID: task.trace_id or "",
            SHA256: verified.sha256,
            PIXELS: f"{verified.width}x{verified.height}",
            CREATED_AT: time_now(),
        }
        with failpoint(Failpoint.PUT_IMAGE):
            stored = self._store.put(key, verified, metadata)
        return self._landed(stored, index, output.revised_prompt)

    def _landed(self, stored: Stored, index: int, revised_prompt: str | None = None) -> LandedImage:
        # The only place that makes one, and of what S3 holds: so a field cannot be missing only after a crash, when
        # the image is found again. The prompt is too long for metadata, and the mark is noted by who put it.
        width, _, height = stored.metadata[PIXELS].partition("x")
        return LandedImage(
            index=index,
            uri=self.destination.uri(stored.key),
            bucket=self.destination.bucket,
            key=stored.key,
            etag=stored.etag,
            version_id=stored.version_id,
            bytes=stored.bytes,
            sha256=stored.metadata[SHA256],
            content_type=stored.content_type,
            width=int(width),
            height=int(height),
            task_id=stored.metadata.get(TASK_ID) or None,
            trace_id=stored.metadata.get(TRACE_ID) or None,
            revised_prompt=revised_prompt,
            created_at=stored.metadata.get(CREATED_AT),
        )

    def _reuse(self, image: LandedImage, name: str) -> LandedImage | None:
        if image.bucket != self.destination.bucket:
            # A ledger is in the bucket of its images: nothing of ours wrote this.
            raise LedgerCorrupt(f"a record of bucket {self.destination.bucket!r} names {image.uri}")
        # Its digest decides whether it is still the image that was paid for; by its key it could be anything by now.
        extension = image.key.rpartition(".")[2]
        key = self.destination.key(f"{name}.{extension}")
        if image.key == key:
            is_there = self._store.holds(image.key, image.sha256)
            return image.model_copy(update={"reused": True}) if is_there else None
        copied = self._store.copy(image.key, key, image.sha256)
        if copied is None:
            return None
        place = {"uri": self.destination.uri(key), "key": key}
        version = {"etag": copied.etag, "version_id": copied.version_id}
        return image.model_copy(update={**place, **version, "reused": True})


def _file_for(output: ImageOutput) -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="imagegen-") if output.file is None else output.file.open("rb")
