"""Hands out one image: its small version, or the way to the whole one."""

from __future__ import annotations

import asyncio
import hashlib
import io

from fastapi import HTTPException
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from airflow_provider_imagegen.exceptions import NotAnImage
from airflow_provider_imagegen.gallery.cache import Memory
from airflow_provider_imagegen.gallery.decoder import Decoder
from airflow_provider_imagegen.gallery.objects import LINK_SECONDS, Objects, ShownImage
from airflow_provider_imagegen.gallery.settings import GallerySettings
from airflow_provider_imagegen.gallery.shrinking import SIDE, NoThumbnail
from airflow_provider_imagegen.gallery.store import Store
from airflow_provider_imagegen.gallery.thumbnails import MEDIA_TYPE, ThumbnailCache
from airflow_provider_imagegen.landing import verify
from airflow_provider_imagegen.schemas import LandedImage

_DECODED_AT_ONCE = 2
_THUMBNAIL_SECONDS = 3600
_REFUSALS, _REFUSAL_SECONDS = 5000, 3600.0


class Delivery:
    """Hands out images, for all users of one server process.

    :param store: Where they are.
    :param settings: How, and where thumbnails are kept.
    """

    def __init__(self, store: Store, settings: GallerySettings) -> None:
        self._store = store
        self._settings = settings
        self._cache = ThumbnailCache(settings.cache_directory, settings.cache_bytes)
        # The last one used goes first: a single user keeps a single process busy.
        self._decoders: asyncio.LifoQueue[Decoder] = asyncio.LifoQueue()
        for _ in range(_DECODED_AT_ONCE):
            self._decoders.put_nowait(Decoder())
        self._refusals: Memory[str, str] = Memory(_REFUSALS, _REFUSAL_SECONDS)

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
        content = await self._known(shown.sha256) or await self._made(objects, shown)
        return Response(content, media_type=MEDIA_TYPE, headers=headers)

    async def _known(self, sha256: str) -> bytes | None:
        """Return a thumbnail that was made before.

        :raises HTTPException: If it was tried before, and there can be none.
        """
        if (reason := self._refusals.get(sha256)) is not None:
            raise HTTPException(415, f"No thumbnail: {reason}.")
        return await asyncio.to_thread(self._cache.get, sha256)

    async def _made(self, objects: Objects, shown: ShownImage) -> bytes:
        decoder = await self._decoders.get()
        try:
            # Somebody else may have asked for it meanwhile.
            if (known := await self._known(shown.sha256)) is not None:
                return known
            return await asyncio.to_thread(self._make, decoder, objects, shown)
        except (NoThumbnail, NotAnImage) as error:
            reason = error.message if isinstance(error, NotAnImage) else str(error)
            self._refusals.put(shown.sha256, reason)
            raise HTTPException(415, f"No thumbnail: {reason}.") from None
        finally:
            self._decoders.put_nowait(decoder)

    def _make(self, decoder: Decoder, objects: Objects, shown: ShownImage) -> bytes:
        whole = objects.content(shown)
        if hashlib.sha256(whole).hexdigest() != shown.sha256:
            raise HTTPException(410, "The image was overwritten by another image.")
        # What landing refuses today may have landed before, or was put there by somebody else.
        verify(io.BytesIO(whole))
        content = decoder.shrunk(whole)
        self._cache.put(shown.sha256, content)
        return content
