"""One poller, and one reading of the connection, for all who wait through a connection on one event loop.

For triggers, of which a process runs thousands, and for the hook. Nothing stays open once the last has left.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from airflow_provider_imagegen.exceptions import AuthenticationError
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.polling.poller import Seen, TaskPoller
from airflow_provider_imagegen.polling.schedule import PollSchedule
from airflow_provider_imagegen.polling.slots import SlotQueue
from airflow_provider_imagegen.schemas import SlotWait, Submission

log = logging.getLogger(__name__)

READING_LASTS = 60.0
"""Seconds for which a connection is not read again, unless its token is refused."""

Read = Callable[[], Awaitable[GatewaySettings]]


class _SharedPoller:
    """A poller with its client, open from the first user to the last."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.users = 0
        self.settings = settings
        self._client = ImageClient(settings)
        self.slots = SlotQueue(settings.max_in_flight, self._in_flight)
        self._opening = asyncio.Lock()
        self._poller: TaskPoller | None = None

    async def opened(self) -> TaskPoller:
        async with self._opening:
            if self._poller is None:
                await self._client.__aenter__()
                # In a context of its own, so that nothing is logged in the name of whichever trigger came first.
                self._poller = contextvars.Context().run(TaskPoller, self._client, PollSchedule())
                self._poller.on_end = self.slots.free
            return self._poller

    def _in_flight(self) -> int:
        return self._poller.in_flight if self._poller else 0

    async def close(self) -> None:
        await self._client.__aexit__(None, None, None)


@dataclass(frozen=True)
class _Reading:
    """A reading of a connection, under way or done.

    :param begun_at: Monotonic seconds.
    """

    task: asyncio.Task[GatewaySettings]
    begun_at: float

    def holds(self, refused: GatewaySettings | None) -> bool:
        """Return whether it need not be read again."""
        if not self.task.done():
            return True
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        # The same object, not an equal one: whoever meets the refusal later finds that it has been read again already.
        return self.task.result() is not refused and time.monotonic() - self.begun_at < READING_LASTS


@dataclass
class _Shared:
    """All that the waiters on one event loop share."""

    readings: dict[str, _Reading] = field(default_factory=dict)
    pollers: list[_SharedPoller] = field(default_factory=list)


# By loop: a client or a lock of one event loop must never be awaited on another, and the hook runs a loop per call.
_loops: dict[asyncio.AbstractEventLoop, _Shared] = {}
_lock = threading.Lock()


def _shared() -> _Shared:
    """Return what the running loop's waiters share."""
    running = asyncio.get_running_loop()
    with _lock:
        if running not in _loops:
            # A loop that ended in the middle of a wait has left its entry behind.
            for loop in [loop for loop in _loops if loop.is_closed()]:
                del _loops[loop]
            _loops[running] = _Shared()
        return _loops[running]


@asynccontextmanager
async def shared_poller(settings: GatewaySettings) -> AsyncIterator[TaskPoller]:
    """Lend the poller of a connection: opened for the first, closed behind the last.

    Files of the images it sees live as long as somebody holds it.

    :param settings: The connection; waiters with different settings do not share.
    :raises ConfigurationError: If the settings cannot be used.
    """
    async with _lent(settings) as lent:
        yield await lent.opened()


@asynccontextmanager
async def _lent(settings: GatewaySettings) -> AsyncIterator[_SharedPoller]:
    pollers = _shared().pollers
    lent = next((lent for lent in pollers if lent.settings == settings), None)
    if lent is None:
        lent = _SharedPoller(settings)
        pollers.append(lent)
    lent.users += 1
    try:
        yield lent
    finally:
        lent.users -= 1
        if not lent.users:
            # Before the await: whoever comes while it closes must get a new one.
            pollers.remove(lent)
            await lent.close()


async def wait_through(
    name: str, read: Read, submission: Submission, schedule: PollSchedule, *, is_rerun: bool = False
) -> Seen:
    """Wait for what a submission has open, with all who wait through the same connection; see :meth:`TaskPoller.wait`.

    The connection is read once for all, and once more for all if its token is refused. Only states are of
    use in what is returned: files of images are gone.

    :raises AuthenticationError: If the token is refused, and refused again after reading the connection again.
    :raises ConfigurationError: If the connection cannot be used.
    """

    async def wait(settings: GatewaySettings) -> Seen:
        async with shared_poller(settings) as poller:
            return await poller.wait(
                submission.task_ids,
                until=submission.deadline,
                submitted_at=submission.last_submitted_at,
                schedule=schedule,
                is_rerun=is_rerun,
                left_open=submission.left_open,
            )

    settings = await _settings(name, read)
    try:
        seen = await wait(settings)
    except AuthenticationError:
        # Once: a token that is rotated during a wait of hours is no error; one that stays refused is.
        log.warning("The token was refused; reading %r again", name)
        seen = await wait(await _settings(name, read, refused=settings))
    for output in (output for task in seen.tasks.values() for output in task.outputs):
        if output.file is not None:
            # The client that holds it may stay open for days, with others waiting.
            output.file.unlink(missing_ok=True)
    return seen


async def wait_for_slot(name: str, read: Read, submission: Submission, schedule: PollSchedule) -> bool:
    """Wait for a slot in the queue of a connection; return true on this one's turn, false when the time is over.

    What the submission has open is looked up meanwhile: the end of one of its tasks frees a slot too. Raises as
    :func:`wait_through` does.
    """
    slot = submission.slot or SlotWait(since=submission.submitted_at)
    async with _lent(await _settings(name, read)) as lent:
        turn = asyncio.ensure_future(lent.slots.wait(slot, submission.deadline))
        # It comes again and again with the same tasks: an end must not free a slot each time.
        polling = asyncio.ensure_future(wait_through(name, read, submission, schedule, is_rerun=True))
        try:
            await asyncio.wait([turn, polling], return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                # Its error, if it has one: whoever cannot look up cannot submit either.
                polling.result()
            return await turn
        finally:
            turn.cancel()
            polling.cancel()
            await asyncio.gather(turn, polling, return_exceptions=True)


async def _settings(name: str, read: Read, refused: GatewaySettings | None = None) -> GatewaySettings:
    """Return the connection's settings; many who ask at once share one reading."""
    readings = _shared().readings
    reading = readings.get(name)
    if reading is None or not reading.holds(refused):
        reading = readings[name] = _Reading(asyncio.ensure_future(read()), time.monotonic())
    # Shielded: the first of them may be cancelled while the others wait for the same reading.
    return await asyncio.shield(reading.task)
