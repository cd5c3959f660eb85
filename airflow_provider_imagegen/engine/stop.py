"""A worker that is told to stop: nothing more is sent, and what was sent is brought home while there is time.

Deploys, scale-downs and evictions end a worker by SIGTERM. Airflow's supervisor forwards it to the process of the task,
which calls ``on_kill`` and runs on until the platform kills it. A request that is at a synchronous gateway then is paid
for, and its image comes with the response and never again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from airflow_provider_imagegen.exceptions import TaskStopped

log = logging.getLogger(__name__)

T = TypeVar("T")

STOP_GRACE = 600.0
"""Seconds; as long as Airflow's Helm chart lets a worker go on after SIGTERM."""


class StopRequest:
    """Whether the worker is told to stop.

    :param grace: Seconds for which it may go on from then on with what was sent.
    """

    def __init__(self, grace: float = STOP_GRACE) -> None:
        self.grace = grace
        self.is_asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: dict[asyncio.Timeout, float] = {}
        self._listeners: list[Callable[[], None]] = []

    def ask(self) -> None:
        """Have it stop; from any thread, and in a signal handler."""
        if self.is_asked:
            return
        self.is_asked = True
        if self._loop is not None:
            # It is closed where the task has just ended.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._tell)

    def when_asked(self, listener: Callable[[], None]) -> None:
        """Call something in the event loop when it is to stop, or at once."""
        self._listeners.append(listener)
        if self.is_asked:
            listener()

    def refuse_if_asked(self) -> None:
        """Raise :class:`TaskStopped` if nothing may be sent any more."""
        if self.is_asked:
            raise TaskStopped("the worker is told to stop, so this was not sent")

    async def run(self, step: Awaitable[T]) -> T:
        """Return the result of what a task does, which ends at the latest when the grace is over.

        :raises TaskStopped: If it did not end within the grace.
        """
        message = f"the worker was told to stop, and what was sent did not end within {self.grace:.0f} s"
        self._loop = asyncio.get_running_loop()
        async with self._ending(self.grace, TaskStopped(message, billed="unknown")):
            return await step

    async def wait(self, wait: Awaitable[T]) -> T:
        """Return the result of a wait before something is sent.

        :raises TaskStopped: As soon as the worker is told to stop.
        """
        async with self._ending(0.0, TaskStopped("the worker is told to stop, so this was not sent")):
            return await wait

    @asynccontextmanager
    async def _ending(self, grace: float, error: TaskStopped) -> AsyncIterator[None]:
        """End the block with an error so many seconds after the worker is told to stop."""
        try:
            async with asyncio.timeout(None) as timeout:
                self._ends[timeout] = grace
                if self.is_asked:
                    timeout.reschedule(asyncio.get_running_loop().time() + grace)
                yield
        except TimeoutError:
            # A library may raise it too.
            if not timeout.expired():
                raise
            raise error from None
        finally:
            del self._ends[timeout]

    def _tell(self) -> None:
        log.warning("The worker is told to stop: nothing more is sent; what was sent has %.0f s to land.", self.grace)
        now = asyncio.get_running_loop().time()
        for timeout, grace in self._ends.items():
            if not timeout.expired():
                timeout.reschedule(now + grace)
        for listener in self._listeners:
            listener()
