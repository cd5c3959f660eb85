"""Keeps drawn images: draws each once, in threads, when somebody first asks.

Beyond a limit of bytes, those not asked for the longest are forgotten; they can be drawn again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from airflow_provider_imagegen.emulator.painter import Drawing, paint

PAINTERS = 2


class Gallery:
    """The images of one emulator.

    :param cache_bytes: how many bytes of drawn images to keep; the one drawn last is always kept
    """

    def __init__(self, cache_bytes: int) -> None:
        self._limit = cache_bytes
        self._held = 0
        self._drawn: OrderedDict[Drawing, bytes] = OrderedDict()
        self._drawing: dict[Drawing, asyncio.Task[bytes]] = {}
        self._painters = ThreadPoolExecutor(PAINTERS, thread_name_prefix="painter")

    async def show(self, drawing: Drawing) -> bytes:
        """Return an image's bytes; those who ask while it is being drawn wait for the same drawing."""
        drawing = drawing.essence
        if drawing in self._drawn:
            self._drawn.move_to_end(drawing)
            return self._drawn[drawing]
        running = self._drawing.get(drawing)
        if running is None:
            running = self._drawing[drawing] = asyncio.create_task(self._draw(drawing))
        return await asyncio.shield(running)

    async def _draw(self, drawing: Drawing) -> bytes:
        try:
            image = await asyncio.get_running_loop().run_in_executor(self._painters, paint, drawing)
        finally:
            del self._drawing[drawing]
        self._drawn[drawing] = image
        self._held += len(image)
        while self._held > self._limit and len(self._drawn) > 1:
            self._held -= len(self._drawn.popitem(last=False)[1])
        return image

    def close(self) -> None:
        """Let the painters go."""
        self._painters.shutdown(wait=False, cancel_futures=True)
