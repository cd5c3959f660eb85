"""Hands out one image: its small version, or the way to the whole one."""

from __future__ import annotations

import asyncio
import hashlib

from fastapi import HTTPException
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from airflow_provider_imagegen.gallery.objects import LINK_SECONDS, Objects, ShownImage
from airflow_provider_imagegen.gallery.settings import GallerySettings
from airflow_provider_imagegen.gallery.store import Store
from airflow_provider_imagegen.gallery.thumbnails import (
    MEDIA_TYPE,
    SIDE,
    NoThumbnail,
    ThumbnailCache,
    shrunk,
)
from airflow_provider_imagegen.schemas import LandedImage

_DECODED_AT_ONCE = 2
_THUMBNAIL_SECONDS = 3600


class Delivery:
    """Hands out images, for all users of one server process.

    :param store: Where they are.
    :param settings: How, and where thumbnails are kept.
    """

    def __init__(self, store: Store, settings: GallerySettings) -> None:
        self._store = store
        self._settings = settings
        self._cache = ThumbnailCache(settings.cache_directory, settings.cache_bytes)
        self._decoding = asyncio.Semaphore(_DECODED_AT_ONCE)

    async def whole(self, image: LandedImage, *, as_download: bool) -> Response:
        """Return the image, or send the browser where it is.

        :raises HTTPException: If it is not to be had.
        """
        objects = await self._store.objects()
        shown = await asyncio.to_thread(objects.look_at, image)
        if self._settings.redirects:
            address = await asyncio.to_thread(objects.address, shown, as_download=as_download)
            # Kept for less long than the address is good.
            kept = {"Cache-Control": f"private, max-age={LINK_SECONDS // 2}"}
            return RedirectResponse(address, 307, headers=kept)
        pieces = await asyncio.to_thread(objects.pieces, shown)
        headers = {
            "Content-Disposition": shown.disposition_header(as_download=as_download),
            "Content-Length": str(shown.bytes),
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": f"private, max-age={LINK_SECONDS}",
        }
        return StreamingResponse(pieces, media_type=shown.content_type, headers=headers)

    async def thumbnail(self, image: LandedImage, known: str) -> Response:
        """Return the small version.

        :param known: Entity tags that the browser has: the ``If-None-Match`` header.
        :raises HTTPException: If there is none.
        """
        headers = {
            "ETag": f'"{image.sha256}-{SIDE}"',
            "Cache-Control": f"private, max-age={_THUMBNAIL_SECONDS}",
        }
        if headers["ETag"] in known:
            return Response(status_code=304, headers=headers)
        objects = await self._store.objects()
        shown = await asyncio.to_thread(objects.look_at, image)
        content = await asyncio.to_thread(self._cache.get, shown.sha256)
        if content is None:
            async with self._decoding:
                content = await asyncio.to_thread(self._make, objects, shown)
        return Response(content, media_type=MEDIA_TYPE, headers=headers)

    def _make(self, objects: Objects, shown: ShownImage) -> bytes:
        if (made := self._cache.get(shown.sha256)) is not None:
            return made
        whole = objects.content(shown)
        if hashlib.sha256(whole).hexdigest() != shown.sha256:
            raise HTTPException(410, "The image was overwritten by another image.")
        try:
            content = shrunk(whole)
        except NoThumbnail as error:
            raise HTTPException(415, f"No thumbnail: {error}.") from None
        self._cache.put(shown.sha256, content)
        return content
