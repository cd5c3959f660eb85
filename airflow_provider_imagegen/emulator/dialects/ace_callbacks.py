"""Pushes finished tasks to callback URLs, as Ace Data Cloud does: one unsigned POST each, a few attempts."""

from __future__ import annotations

import asyncio
import logging

import httpx

from airflow_provider_imagegen.emulator.books import Task
from airflow_provider_imagegen.emulator.dialects import ace_records
from airflow_provider_imagegen.emulator.studio import Studio

ATTEMPTS = 3

log = logging.getLogger(__name__)


class Messenger:
    """Waits for tasks whose client asked for a callback, and calls it."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._pending: set[asyncio.Task[None]] = set()

    def promise(self, task: Task, callback_url: str, origin: str) -> None:
        """Push a task's result to a URL as soon as it is finished."""
        errand = asyncio.create_task(self._deliver(task, callback_url, origin))
        self._pending.add(errand)
        errand.add_done_callback(self._pending.discard)

    async def _deliver(self, task: Task, callback_url: str, origin: str) -> None:
        await self._studio.until_ready(task)
        message = self._message(task, origin)
        async with httpx.AsyncClient(timeout=10) as client:
            for attempt in range(ATTEMPTS):
                try:
                    answer = await client.post(callback_url, json=message)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    log.warning("callback of task %s failed: %s", task.id, type(error).__name__)
                else:
                    if answer.is_success:
                        self._studio.books.counts["callbacks"] += 1
                        return
                await asyncio.sleep(0.2 * 2**attempt)

    def _message(self, task: Task, origin: str) -> dict[str, object]:
        """Return what is pushed: one level deeper than the task record."""
        response = ace_records.outcome(task, self._studio.tickets, origin, self._studio.clock())
        if "data" in response:
            response["data"] = {"created": response.pop("created", 0), "data": response["data"]}
        return response

    async def close(self) -> None:
        """Give up what has not been pushed yet."""
        for errand in self._pending:
            errand.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
