"""Keeps drawn pictures: draws each once, in threads, when somebody first asks.

Beyond a limit of bytes, those not asked for the longest are forgotten; they can be drawn again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from airflow_provider_imagegen.emulator.painter import Picture, paint

PAINTERS = 2


class Gallery:
    """The pictures of one emulator.

    :param cache_bytes: how many bytes of drawn pictures to keep; the one drawn last is always kept
    """

    def __init__(self, cache_bytes: int) -> None:
        self._limit = cache_bytes
        self._held = 0
        self._drawn: OrderedDict[Picture, bytes] = OrderedDict()
        self._drawing: dict[Picture, asyncio.Task[bytes]] = {}
        self._painters = ThreadPoolExecutor(PAINTERS, thread_name_prefix="painter")

    async def show(self, picture: Picture) -> bytes:
        """Return a picture's bytes; those who ask while it is being drawn wait for the same drawing."""
        picture = picture.essence
        if picture in self._drawn:
            self._drawn.move_to_end(picture)
            return self._drawn[picture]
        drawing = self._drawing.get(picture)
        if drawing is None:
            drawing = self._drawing[picture] = asyncio.create_task(self._draw(picture))
        return await asyncio.shield(drawing)

    async def _draw(self, picture: Picture) -> bytes:
        try:
            image = await asyncio.get_running_loop().run_in_executor(self._painters, paint, picture)
        finally:
            del self._drawing[picture]
        self._drawn[picture] = image
        self._held += len(image)
        while self._held > self._limit and len(self._drawn) > 1:
            self._held -= len(self._drawn.popitem(last=False)[1])
        return image

    def close(self) -> None:
        """Let the painters go."""
        self._painters.shutdown(wait=False, cancel_futures=True)
