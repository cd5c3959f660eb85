"""One poller, and one reading of the connection, for all who wait through a connection on one event loop.

For triggers, of which a process runs a thousand, and for the hook. What one loop opened no other ever sees, and
nothing stays open once the last has left.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from airflow_provider_imagegen.exceptions import AuthenticationError
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.polling.poller import TaskPoller
from airflow_provider_imagegen.polling.schedule import PollSchedule
from airflow_provider_imagegen.polling.usual_times import UsualTimes
from airflow_provider_imagegen.polling.waiter import Seen
from airflow_provider_imagegen.schemas import ImageTask

log = logging.getLogger(__name__)

READING_LASTS = 60.0
"""Seconds for which a connection is not read again, unless its token is refused."""

Read = Callable[[], Awaitable[GatewaySettings]]


class _SharedPoller:
    """A poller with its client, open from the first user to the last."""

    def __init__(self, settings: GatewaySettings, usual_times: UsualTimes) -> None:
        self.users = 0
        self._client = ImageClient(settings)
        self._usual_times = usual_times
        self._opening = asyncio.Lock()
        self._poller: TaskPoller | None = None

    async def opened(self) -> TaskPoller:
        async with self._opening:
            if self._poller is None:
                await self._client.__aenter__()
                # In a context of its own, so that nothing is logged in the name of whichever trigger came first.
                self._poller = contextvars.Context().run(self._make)
            return self._poller

    def _make(self) -> TaskPoller:
        return TaskPoller(self._client, PollSchedule(), usual_times=self._usual_times)

    async def close(self) -> None:
        await self._client.__aexit__(None, None, None)


@dataclass
class _Reading:
    """What a connection says, and since when that is known.

    :param settings: ``None`` while it is being read.
    :param under_way: The reading, while it is.
    """

    settings: GatewaySettings | None = None
    read_at: float = 0.0
    under_way: asyncio.Task[GatewaySettings] | None = None

    def holds(self, refused: GatewaySettings | None) -> bool:
        """Whether it need not be read again."""
        return self.settings is not refused and time.monotonic() - self.read_at < READING_LASTS


@dataclass
class _Shared:
    """All that the waiters on one event loop share."""

    readings: dict[str, _Reading] = field(default_factory=dict)
    pollers: dict[Hashable, _SharedPoller] = field(default_factory=dict)
    usual_times: dict[Hashable, UsualTimes] = field(default_factory=dict)


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()
_lock = threading.Lock()


def _shared() -> _Shared:
    """Return what the running loop's waiters share; forget what was left behind by loops that are closed."""
    running = asyncio.get_running_loop()
    with _lock:
        shared = _loops.get(running)
        if shared is None:
            for loop in [loop for loop in _loops if loop.is_closed()]:
                del _loops[loop]
            shared = _loops[running] = _Shared()
        return shared


@asynccontextmanager
async def shared_poller(settings: GatewaySettings) -> AsyncIterator[TaskPoller]:
    """Lend the poller of a connection: opened for the first, closed behind the last.

    Files of the images it sees live as long as somebody holds it.

    :param settings: The connection; whose settings differ does not share.
    :raises ConfigurationError: If the settings cannot be used.
    """
    shared, key = _shared(), _identity(settings)
    lent = shared.pollers.get(key)
    if lent is None:
        usual_times = shared.usual_times.setdefault((settings.name, settings.base_url), UsualTimes())
        lent = shared.pollers[key] = _SharedPoller(settings, usual_times)
    lent.users += 1
    try:
        yield await lent.opened()
    finally:
        lent.users -= 1
        if not lent.users:
            del shared.pollers[key]
            await lent.close()


async def wait_through(
    name: str,
    read: Read,
    task_ids: Iterable[str],
    *,
    until: float,
    submitted_at: float,
    schedule: PollSchedule,
    model: str | None = None,
) -> Seen:
    """Wait for tasks together with all who wait through the same connection; see :meth:`TaskPoller.wait`.

    The connection is read once for all, and once more for all if its token is refused. Only states are of
    use in what is returned: files of images are gone.

    :param name: The connection's id.
    :param read: Reads it.
    :raises AuthenticationError: If the token is refused, and refused again after reading the connection again.
    :raises ConfigurationError: If the connection cannot be used.
    """
    task_ids = list(task_ids)
    settings = await _settings(name, read)
    for is_last in (False, True):
        try:
            async with shared_poller(settings) as poller:
                seen = await poller.wait(
                    task_ids, until=until, submitted_at=submitted_at, schedule=schedule, model=model
                )
                _remove_files(seen.tasks.values())
                return seen
        except AuthenticationError:
            if is_last:
                raise
            log.warning("The token was refused; reading %r again", name)
            settings = await _settings(name, read, refused=settings)
    raise AssertionError("unreachable")


async def _settings(name: str, read: Read, refused: GatewaySettings | None = None) -> GatewaySettings:
    """Return what a connection says; many who ask at once share one reading.

    :param refused: What it said when its token was refused.
    """
    shared = _shared()
    reading = shared.readings.get(name)
    if reading is not None and reading.under_way is not None:
        return await asyncio.shield(reading.under_way)
    if reading is not None and reading.settings is not None and reading.holds(refused):
        return reading.settings
    under_way = asyncio.ensure_future(read())
    reading = shared.readings[name] = _Reading(under_way=under_way)

    def keep(done: asyncio.Future[GatewaySettings]) -> None:
        # Not the future itself: it would keep its loop alive.
        reading.under_way = None
        if done.cancelled() or done.exception() is not None:
            shared.readings.pop(name, None)
        else:
            reading.settings, reading.read_at = done.result(), time.monotonic()

    under_way.add_done_callback(keep)
    return await asyncio.shield(under_way)


def _remove_files(tasks: Iterable[ImageTask]) -> None:
    """Remove the images that came inside responses: the client that holds them may stay open for days."""
    for task in tasks:
        for output in task.outputs:
            if output.file is not None:
                output.file.unlink(missing_ok=True)


def _identity(settings: GatewaySettings) -> Hashable:
    """Return what tells one connection from another."""
    fields = (getattr(settings, each.name) for each in dataclasses.fields(settings))
    return tuple(tuple(sorted(value.items())) if isinstance(value, Mapping) else value for value in fields)
