"""The end of waiting in the worker: once everything is submitted, open rows are handed over to the trigger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class HandOver:
    """Ends the waiting of all rows together, some seconds after the last submit.

    :param grace: These seconds; ``None`` to wait to the end.
    :param looks_once: Whether rows that were submitted before are looked up only once, and handed over if they still
        run.
    """

    def __init__(self, grace: float | None, *, looks_once: bool = False) -> None:
        self.looks_once = looks_once
        self.is_over = False
        """Whether rows have been handed over: what begins after that, the next worker begins."""
        self._grace = grace
        # Rows that are still to begin count as one submit: without it, the first row to be submitted would be handed
        # over while the second waits for a slot.
        self._submitting = 1
        self._at: float | None = None
        self._waits: set[asyncio.Timeout] = set()

    def begin_submit(self) -> None:
        """Count one more submit; nothing is handed over until it ends."""
        self._submitting += 1
        self._end_waits_at(None)

    def end_submit(self) -> None:
        """Count one less."""
        self._submitting -= 1
        if not self._submitting and self._grace is not None:
            self._end_waits_at(asyncio.get_running_loop().time() + self._grace)

    async def wait(self, wait: Awaitable[T]) -> T | None:
        """Return the result of a wait; ``None`` if waiting ends before it does."""
        try:
            async with asyncio.timeout_at(self._at) as timeout:
                self._waits.add(timeout)
                return await wait
        except TimeoutError:
            # A library may raise it too, and that is a failure of the row, not the end of waiting.
            if not timeout.expired():
                raise
            self.is_over = True
            return None
        finally:
            self._waits.discard(timeout)

    def _end_waits_at(self, when: float | None) -> None:
        if when == self._at:
            return
        self._at = when
        for timeout in self._waits:
            # One that has just expired takes no other time, and its row is handed over.
            if not timeout.expired():
                timeout.reschedule(when)
