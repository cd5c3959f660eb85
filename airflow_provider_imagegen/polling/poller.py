"""Waiters, and the poller that looks up their tasks on one client: ticks, bounded requests, results for everybody.

When to look up is decided in ``schedule``, whose fault a failure is in ``bulk_lookup``; here are the event loop's
timers and tasks. The package's docstring tells why it is done this way.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field

from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    ImageGenError,
    LookUpFailed,
    RateLimited,
    UnreadableResponse,
)
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.polling.bulk_lookup import LookupResults, look_up
from airflow_provider_imagegen.polling.schedule import Lookup, PollSchedule, Ticks
from airflow_provider_imagegen.schemas import ImageTask

log = logging.getLogger(__name__)

BULK_CONCURRENCY = 8
"""Lookups for many tasks that are under way at once, at most."""
SINGLE_CONCURRENCY = 50
"""Lookups for one task that are under way at once, at most; httpx gets slow long before a gateway does."""


@dataclass(frozen=True)
class Seen:
    """Result of a wait.

    :param tasks: The last that was seen of every task; ``running`` where nothing was.
    :param last_fault: Why the last lookup failed; ``None`` if it did not.
    """

    tasks: dict[str, ImageTask]
    last_fault: ImageGenError | None = None


# With slots, because a triggerer holds tens of thousands of them.
@dataclass(eq=False, slots=True, kw_only=True)
class _Waiter:
    """One wait: its tasks, and its current round of lookups. All times are the event loop's.

    :param open_ids: Ids of the tasks that are not done.
    :param asked_at: Tick of the last lookup; at first, the beginning of the wait.
    :param visible: Time from which on a task that is not shown is lost.
    :param done: Its result is the error to raise.
    :param pending: Tasks of this round whose result is not there yet.
    :param fault: Why this round failed, as far as it is known.
    """

    open_ids: list[str]
    schedule: PollSchedule
    asked_at: float
    visible: float
    end: float
    is_rerun: bool = False
    left_open: int = 0
    tasks: dict[str, ImageTask] = field(init=False)
    done: asyncio.Future[Exception | None] = field(init=False)
    lookups: int = 0
    faults: int = 0
    pending: int = 0
    fault: ImageGenError | None = None

    def __post_init__(self) -> None:
        self.tasks = {task_id: ImageTask(state="running", task_id=task_id) for task_id in self.open_ids}
        self.done = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return self.done.done()

    def finish(self, error: Exception | None = None) -> None:
        """End the wait."""
        if not self.done.done():
            # A copy for each: raising an error adds to its traceback, and many waiters may share one.
            self.done.set_result(copy(error) if isinstance(error, ImageGenError) else error)

    def begin_round(self, now: float) -> None:
        """Note that all open tasks are being looked up."""
        self.pending = len(self.open_ids)
        self.asked_at = now
        self.lookups += 1
        self.fault = None

    def take(self, task_id: str, results: LookupResults) -> None:
        """Note the result for one task; an error that is no passing trouble ends the wait."""
        self.pending -= 1
        if (task := results.tasks.get(task_id)) is not None:
            self.tasks[task_id] = task
        elif isinstance(fault := results.faults.get(task_id), LookUpFailed | RateLimited):
            self.fault = fault
        elif fault is not None:
            self.finish(fault)

    def end_round(self, now: float) -> Lookup:
        """Return the round that ends, as the schedule needs it; end the wait if it is over."""
        fault = self.fault
        self.faults = self.faults + 1 if fault else 0
        if now > self.visible:
            # Before that, the gateway may just be slow to show what it has accepted. Nothing is submitted again for
            # a lost task: it may still be generated, and billed.
            self.tasks = {task_id: task.lost_if_unseen() for task_id, task in self.tasks.items()}
        self.open_ids = [task_id for task_id, task in self.tasks.items() if not task.is_terminal]
        if isinstance(fault, UnreadableResponse) and self.faults >= self.schedule.unreadable_limit:
            self.finish(fault)
        elif len(self.open_ids) <= self.left_open or now >= self.end:
            self.finish()
        return Lookup(
            asked_at=self.asked_at,
            ended_at=now,
            lookups=self.lookups,
            faults_in_a_row=self.faults,
            retry_after=getattr(fault, "retry_after", None),
        )


class _DueTimes:
    """Waiters by due time. Those that left in the meantime are dropped when their time comes."""

    # Due times lie on a grid, so there are few of them however many waiters there are: no heap is needed.
    def __init__(self) -> None:
        self._waiters: dict[float, list[_Waiter]] = {}

    def add(self, waiter: _Waiter, due: float) -> None:
        self._waiters.setdefault(due, []).append(waiter)

    @property
    def next(self) -> float | None:
        return min(self._waiters, default=None)

    def take(self, now: float) -> list[_Waiter]:
        """Remove and return all who are due."""
        due = sorted(moment for moment in self._waiters if moment <= now)
        return [waiter for moment in due for waiter in self._waiters.pop(moment) if not waiter.is_over]

    def take_early(self, free: int, now: float) -> list[_Waiter]:
        """Remove and return those who fit into a request with so many free places, the next ones due first."""
        taken: list[_Waiter] = []
        for moment in sorted(self._waiters) if free else ():
            there = self._waiters[moment]
            while there and (there[-1].is_over or self._may_come_early(there[-1], free, now)):
                waiter = there.pop()
                if not waiter.is_over:
                    taken.append(waiter)
                    free -= len(waiter.open_ids)
            if there:
                break
            del self._waiters[moment]
        return taken

    @staticmethod
    def _may_come_early(waiter: _Waiter, free: int, now: float) -> bool:
        # Half an interval is the shortest pause of the schedule, so that nobody is looked up more often than it says.
        has_paused = now - waiter.asked_at >= waiter.schedule.interval / 2
        return has_paused and not waiter.faults and len(waiter.open_ids) <= free


_Chunk = dict[str, list[_Waiter]]
"""Ids of one request, each with those who wait for it."""


class TaskPoller:
    """Looks up tasks on one client until they are done, for any number of waiters on one event loop.

    :param client: A client, opened before the first wait.
    :param schedule: When to look up, for those who do not say.
    :param clock: Wall clock, in unix seconds; deadlines come from other processes.
    """

    def __init__(self, client: ImageClient, schedule: PollSchedule, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._schedule = schedule
        self._clock = clock
        self._ids_per_look_up = client.gateway.capabilities.ids_per_look_up
        self._concurrency = SINGLE_CONCURRENCY if self._ids_per_look_up == 1 else BULK_CONCURRENCY
        self._ticks = Ticks(random.random())  # noqa: S311 - spreads load, guards nothing
        # Lines logged here belong to the poller's owner, not to the waiter who happens to wake it.
        self._context = contextvars.copy_context()
        self.on_end: Callable[[int], None] = _ignore
        """Called whenever fewer tasks are waited for, with the number of those that were seen to end."""
        self._waiters: set[_Waiter] = set()
        self._due = _DueTimes()
        self._timer: asyncio.Handle | None = None
        # Not read from the timer: for a timer that is due at once, uvloop returns a handle without a time.
        self._tick_at = 0.0
        self._chunks: deque[_Chunk] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._last_tick = self._paused_until = float("-inf")
        self._silences_in_a_row = 0

    async def wait(
        self,
        task_ids: Iterable[str],
        *,
        until: float,
        submitted_at: float,
        schedule: PollSchedule | None = None,
        is_rerun: bool = False,
        left_open: int = 0,
    ) -> Seen:
        """Look up until every task is done, or until the time is over.

        Lookups that fail do not end it: the tasks go on at the gateway. There is always one lookup, and always a last
        one at ``until``.

        :param until: Unix seconds at which to stop waiting.
        :param submitted_at: Unix seconds of the submit: for a while after it a task may be invisible.
        :param schedule: When to look up, if not as the poller usually does.
        :param is_rerun: Whether they were waited for before, so that the end of some may have been seen already.
        :param left_open: Number of tasks whose end is not waited for.
        :raises AuthenticationError: If the token is not accepted.
        :raises RequestRefused: If the gateway refuses to look these tasks up.
        :raises UnreadableResponse: If too many responses in a row were unreadable.
        """
        now = _now()
        # Deadlines come from other processes and are wall-clock times. That clock is read once: it may jump.
        offset = now - self._clock()
        visible = submitted_at + offset + self._client.settings.visibility_grace
        open_ids, schedule = list(dict.fromkeys(task_ids)), schedule or self._schedule
        if not open_ids:
            return Seen({})
        waiter = _Waiter(open_ids=open_ids, schedule=schedule, asked_at=now, visible=visible, end=until + offset)
        waiter.is_rerun, waiter.left_open = is_rerun, left_open
        self._waiters.add(waiter)
        self._due.add(waiter, self._ticks.first(schedule, now=now, last_tick=self._last_tick))
        self._wake()
        try:
            error = await waiter.done
        finally:
            await self._leave(waiter)
        if error is not None:
            raise error
        return Seen(waiter.tasks, waiter.fault)

    @property
    def in_flight(self) -> int:
        """Number of tasks that somebody waits for."""
        return len({task_id for waiter in self._waiters for task_id in waiter.open_ids})

    async def _leave(self, waiter: _Waiter) -> None:
        waiter.finish()
        self._waiters.discard(waiter)
        self.on_end(0)
        if self._waiters:
            return
        # With the last waiter goes all that the event loop holds: a cancelled trigger must leave no task behind.
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = _DueTimes()
        self._chunks.clear()
        senders, self._senders = self._senders, set()
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)

    def _wake(self) -> None:
        """Set the timer to the first due time."""
        due = self._due.next
        if due is None:
            return
        if self._timer is not None:
            if self._tick_at <= due:
                return
            self._timer.cancel()
        self._tick_at = due
        self._timer = asyncio.get_running_loop().call_at(due, self._tick, context=self._context)

    def _tick(self) -> None:
        self._timer = None
        # A timer may fire a little early, by the clock's resolution.
        self._last_tick = now = max(_now(), self._tick_at)
        ready = self._without_paused(self._due.take(now), now)
        sound = [waiter for waiter in ready if not waiter.faults]
        # Apart from the others: whoever failed before may hold the bad id, and would make their request fail too.
        suspicious = [waiter for waiter in ready if waiter.faults]
        if now >= self._paused_until:
            asked = sum(len(waiter.open_ids) for waiter in sound)
            sound += self._due.take_early(-asked % self._ids_per_look_up, now)
        self._enqueue(sound, now)
        self._enqueue(suspicious, now)
        self._wake()

    def _without_paused(self, waiters: list[_Waiter], now: float) -> list[_Waiter]:
        """Put off all but those whose wait ends: these have their last lookup even while the gateway asks to wait."""
        if now >= self._paused_until:
            return waiters
        for waiter in waiters:
            if waiter.end > now:
                jitter = random.random()  # noqa: S311
                due = self._ticks.resumed(waiter.schedule, self._paused_until, end=waiter.end, jitter=jitter)
                self._due.add(waiter, due)
        return [waiter for waiter in waiters if waiter.end <= now]

    def _enqueue(self, waiters: list[_Waiter], now: float) -> None:
        waiting: _Chunk = {}
        for waiter in waiters:
            waiter.begin_round(now)
            for task_id in waiter.open_ids:
                waiting.setdefault(task_id, []).append(waiter)
        task_ids = list(waiting)
        if any(waiter.faults > 1 for waiter in waiters):
            # Do not group the task at fault with the same others every time.
            random.shuffle(task_ids)
        step = self._ids_per_look_up
        for start in range(0, len(task_ids), step):
            self._chunks.append({task_id: waiting[task_id] for task_id in task_ids[start : start + step]})
        for _ in range(min(self._concurrency - len(self._senders), len(self._chunks))):
            sender = asyncio.get_running_loop().create_task(self._send_all(), context=self._context.copy())
            self._senders.add(sender)
            sender.add_done_callback(self._sender_ended)

    def _sender_ended(self, sender: asyncio.Task[None]) -> None:
        self._senders.discard(sender)
        if not sender.cancelled() and isinstance(error := sender.exception(), Exception):
            # If the lookup task crashes, fail all waiters instead of hanging.
            for waiter in self._waiters:
                waiter.finish(error)

    async def _send_all(self) -> None:
        while self._chunks:
            chunk = self._chunks.popleft()
            waiters = [waiter for there in chunk.values() for waiter in there if not waiter.is_over]
            if not waiters:
                continue
            suspicious = any(waiter.faults > 1 for waiter in waiters)
            results = await look_up(self._client, list(chunk), suspicious=suspicious)
            self._distribute(chunk, results)
            self._react_to(results)
            self._wake()

    def _distribute(self, chunk: _Chunk, results: LookupResults) -> None:
        # One jitter for all: those who were looked up together stay together.
        now, jitter = _now(), random.random()  # noqa: S311
        for task_id, waiters in chunk.items():
            for waiter in waiters:
                waiter.take(task_id, results)
                if waiter.pending or waiter.is_over:
                    continue
                lookup = waiter.end_round(now)
                if not waiter.is_over:
                    due = self._ticks.following(waiter.schedule, lookup, end=waiter.end, jitter=jitter)
                    self._due.add(waiter, due)
        ended = (chunk[task_id] for task_id, task in results.tasks.items() if task.is_terminal)
        self.on_end(sum(any(waiter.lookups > 1 or not waiter.is_rerun for waiter in waiters) for waiters in ended))

    def _react_to(self, results: LookupResults) -> None:
        """Draw conclusions for everybody from a lookup that failed."""
        faults = set(results.faults.values())
        silent = any(_is_silence(error) for error in faults)
        self._silences_in_a_row = self._silences_in_a_row + 1 if silent else 0
        for error in faults:
            if isinstance(error, LookUpFailed | RateLimited):
                log.warning("Lookup failed, the task goes on at the gateway: %s", error)
            if isinstance(error, AuthenticationError) and error.status != 403:
                for waiter in list(self._waiters):
                    waiter.finish(error)
            elif isinstance(error, RateLimited) and error.retry_after:
                self._paused_until = max(self._paused_until, _now() + error.retry_after)
                self._fail_unsent(error)
            elif _is_silence(error) and self._silences_in_a_row >= self._concurrency:
                # One time-out after another would keep those behind waiting far beyond their deadlines.
                self._fail_unsent(error)

    def _fail_unsent(self, error: Exception) -> None:
        unsent = list(self._chunks)
        self._chunks.clear()
        for chunk in unsent:
            self._distribute(chunk, LookupResults(faults=dict.fromkeys(chunk, error)))


def _ignore(number: int) -> None:
    """Leave it to the waiters."""


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_silence(error: Exception) -> bool:
    return isinstance(error, LookUpFailed) and not isinstance(error, UnreadableResponse) and error.status is None
