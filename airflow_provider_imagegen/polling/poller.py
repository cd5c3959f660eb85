"""Look tasks up for all who wait for them on one client: ticks, bounded requests, results for every waiter.

A thousand deferred tasks on one connection are ten requests of a hundred ids per tick, not a thousand requests. What
makes this work is that lookups come due together, however slow the event loop is: all but the first lookup after a
pause lie on one grid of ticks (:class:`~airflow_provider_imagegen.polling.schedule.Ticks`), and what was asked
together in one tick stays together. Timers that merely fire close to each other do not suffice: on a slow machine
each waiter drifts by the time its neighbours take, and the requests of a tick grow with the number of waiters.

A failed lookup is not a failed task. Server errors and resets are retried with growing pauses until the waiter's
deadline; the record stays, and a later try attaches. If a request for many ids fails, it is split to find the one at
fault (``bulk_lookup``), so one broken task does not blind its neighbours. A rejected token is reported to the caller,
who reads the connection again once.

Polling only reads. It may run twice, and it may be cancelled at any await. The decisions are made elsewhere, see the
package's docstring; here are the event loop's timers and tasks.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable

from airflow_provider_imagegen.exceptions import AuthenticationError, LookUpFailed, RateLimited, UnreadableResponse
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.polling.bulk_lookup import LookupResults, look_up
from airflow_provider_imagegen.polling.queue import DueTimes
from airflow_provider_imagegen.polling.schedule import PollSchedule, Ticks
from airflow_provider_imagegen.polling.usual_times import UsualTimes
from airflow_provider_imagegen.polling.waiter import Seen, Span, Waiter

log = logging.getLogger(__name__)

BULK_ABREAST = 8
"""Lookups for many tasks that are under way at once, at most."""
SINGLE_ABREAST = 50
"""Lookups for one task that are under way at once, at most; httpx gets slow long before a gateway does."""

_Chunk = dict[str, list[Waiter]]


class TaskPoller:
    """Looks up tasks on one client until they are done, for any number of waiters on one event loop.

    :param client: An opened client.
    :param schedule: When to look, for those who do not say.
    :param clock: Wall clock, in unix seconds; deadlines come from other processes.
    :param usual_times: What is known of how long tasks take.
    """

    def __init__(
        self,
        client: ImageClient,
        schedule: PollSchedule,
        clock: Callable[[], float] = time.time,
        usual_times: UsualTimes | None = None,
    ) -> None:
        self._client = client
        self._schedule = schedule
        self._clock = clock
        self._usual_times = usual_times or UsualTimes()
        self._ids_per_look_up = client.gateway.capabilities.ids_per_look_up
        self._abreast = SINGLE_ABREAST if self._ids_per_look_up == 1 else BULK_ABREAST
        self._ticks = Ticks(random.random())  # noqa: S311 - spreads load, guards nothing
        # What is logged here belongs to whom the poller belongs, not to the waiter who happens to wake it.
        self._context = contextvars.copy_context()
        self._waiters: set[Waiter] = set()
        self._due = DueTimes()
        self._timer: asyncio.Handle | None = None
        # What at once is to be, uvloop keeps in a handle that does not tell when.
        self._tick_at = 0.0
        self._chunks: deque[_Chunk] = deque()
        self._askers: set[asyncio.Task[None]] = set()
        self._last_tick = self._held_until = float("-inf")
        self._silent_in_a_row = 0

    async def wait(
        self,
        task_ids: Iterable[str],
        *,
        until: float,
        submitted_at: float,
        schedule: PollSchedule | None = None,
        model: str | None = None,
    ) -> Seen:
        """Look up until every task is done, or until the time is over.

        Failing lookups are ridden out: the tasks go on at the gateway whether we look or not. There is
        always one lookup, and always a last one at ``until``. The first waits until tasks of that model
        usually begin to finish.

        :param task_ids: The gateway's ids.
        :param until: Unix seconds at which to stop waiting.
        :param submitted_at: Unix seconds of the submit: for a while after it a task may be invisible.
        :param schedule: When to look, if not as the poller usually does.
        :param model: What generates the tasks, if known.
        :raises AuthenticationError: If the token is not accepted.
        :raises RequestRefused: If the gateway refuses to look these tasks up.
        :raises UnreadableResponse: If responses made no sense too often in a row.
        """
        schedule = schedule or self._schedule
        if self._ids_per_look_up > 1:
            schedule = schedule.paced(self._usual_times.shortest(model))
        waiter = Waiter(task_ids, self._span(until, submitted_at), schedule, model)
        if not waiter.open_ids:
            return Seen({})
        self._join(waiter)
        try:
            error = await waiter.done
        finally:
            await self._leave(waiter)
        if error is not None:
            raise error
        return Seen(waiter.tasks, waiter.last_fault)

    def _span(self, until: float, submitted_at: float) -> Span:
        # The wall clock counts between processes; within this one it may jump.
        start, now = _now(), self._clock()
        submitted = start + submitted_at - now
        grace = self._client.settings.visibility_grace
        return Span(submitted=submitted, joined=start, visible=submitted + grace, end=start + until - now)

    def _join(self, waiter: Waiter) -> None:
        self._waiters.add(waiter)
        now, span = waiter.span.joined, waiter.span
        usual_end = span.submitted + self._usual_times.shortest(waiter.model)
        due = self._ticks.first(waiter.schedule, now=now, last_tick=self._last_tick, usual_end=usual_end, end=span.end)
        waiter.held_back = due > now + waiter.schedule.tick
        self._due.add(waiter, due)
        self._wake()

    async def _leave(self, waiter: Waiter) -> None:
        """Forget a waiter; with the last one goes all that the event loop holds."""
        waiter.finish()
        self._waiters.discard(waiter)
        if self._waiters:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due.clear()
        self._chunks.clear()
        askers, self._askers = self._askers, set()
        for asker in askers:
            asker.cancel()
        await asyncio.gather(*askers, return_exceptions=True)

    def _wake(self) -> None:
        """See to it that the next tick comes when the first waiter is due."""
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
        ready = self._unless_held(self._due.take(now), now)
        sound = _ids_of(waiter for waiter in ready if not waiter.faults)
        suspicious = _ids_of(waiter for waiter in ready if waiter.faults)
        free = -len(sound) % self._ids_per_look_up
        if now >= self._held_until:
            early = self._due.take_early(free, now)
            ready += early
            _add_ids(sound, early)
        for waiter in ready:
            waiter.begin_round(now)
        self._ask_for(sound)
        self._ask_for(suspicious)
        self._wake()

    def _unless_held(self, waiters: list[Waiter], now: float) -> list[Waiter]:
        """Put off whom the gateway asked to wait; who is at his end has his last look all the same."""
        if now >= self._held_until:
            return waiters
        for waiter in waiters:
            if waiter.span.end > now:
                due = self._ticks.resumed(
                    waiter.schedule,
                    self._held_until,
                    end=waiter.span.end,
                    jitter=random.random(),  # noqa: S311
                )
                self._due.add(waiter, due)
        return [waiter for waiter in waiters if waiter.span.end <= now]

    def _ask_for(self, waiting: _Chunk) -> None:
        task_ids = list(waiting)
        if any(waiter.faults > 1 for waiters in waiting.values() for waiter in waiters):
            # Do not group the task at fault with the same others every time.
            random.shuffle(task_ids)
        step = self._ids_per_look_up
        for start in range(0, len(task_ids), step):
            self._chunks.append({task_id: waiting[task_id] for task_id in task_ids[start : start + step]})
        for _ in range(min(self._abreast - len(self._askers), len(self._chunks))):
            asker = asyncio.get_running_loop().create_task(self._ask_all(), context=self._context.copy())
            self._askers.add(asker)
            asker.add_done_callback(self._asker_ended)

    def _asker_ended(self, asker: asyncio.Task[None]) -> None:
        self._askers.discard(asker)
        if not asker.cancelled() and isinstance(error := asker.exception(), Exception):
            # If the lookup task crashes, fail all waiters instead of hanging.
            for waiter in self._waiters:
                waiter.finish(error)

    async def _ask_all(self) -> None:
        while self._chunks:
            chunk = self._chunks.popleft()
            waiters = [waiter for there in chunk.values() for waiter in there if not waiter.is_over]
            if not waiters:
                continue
            suspicious = any(waiter.faults > 1 for waiter in waiters)
            results = await look_up(self._client, list(chunk), suspicious=suspicious)
            self._hand_out(chunk, results)
            self._heed(results)
            self._wake()

    def _hand_out(self, chunk: _Chunk, results: LookupResults) -> None:
        now, jitter = _now(), random.random()  # noqa: S311
        for task_id, waiters in chunk.items():
            fault, task = results.faults.get(task_id), results.tasks.get(task_id)
            for waiter in waiters:
                if fault is None:
                    waiter.take(task_id, task)
                else:
                    waiter.take_fault(fault)
                if not waiter.unanswered and not waiter.is_over:
                    self._end_round(waiter, now, jitter)

    def _end_round(self, waiter: Waiter, now: float, jitter: float) -> None:
        lesson = waiter.lesson()
        if lesson is not None:
            self._usual_times.learn(waiter.model, lesson)
        look = waiter.end_round(now)
        if not waiter.is_over:
            due = self._ticks.following(waiter.schedule, look, end=waiter.span.end, jitter=jitter)
            self._due.add(waiter, due)

    def _heed(self, results: LookupResults) -> None:
        """Draw conclusions for everybody from what went wrong with a lookup."""
        faults = set(results.faults.values())
        for error in faults:
            if isinstance(error, LookUpFailed | RateLimited):
                log.warning("Lookup failed, the task goes on at the gateway: %s", error)
        silent = any(_is_silence(error) for error in faults)
        self._silent_in_a_row = self._silent_in_a_row + 1 if silent else 0
        for error in faults:
            if isinstance(error, AuthenticationError) and error.status != 403:
                for waiter in list(self._waiters):
                    waiter.finish(error)
            elif isinstance(error, RateLimited) and error.retry_after:
                self._held_until = max(self._held_until, _now() + error.retry_after)
                self._give_up_unsent(error)
            elif _is_silence(error) and self._silent_in_a_row >= self._abreast:
                # One time-out after another would keep those behind waiting far beyond their deadlines.
                self._give_up_unsent(error)

    def _give_up_unsent(self, error: Exception) -> None:
        unsent = list(self._chunks)
        self._chunks.clear()
        for chunk in unsent:
            self._hand_out(chunk, LookupResults(faults=dict.fromkeys(chunk, error)))


def _now() -> float:
    """Return the event loop's time, by which its timers go too."""
    return asyncio.get_running_loop().time()


def _ids_of(waiters: Iterable[Waiter]) -> _Chunk:
    waiting: _Chunk = {}
    _add_ids(waiting, waiters)
    return waiting


def _add_ids(waiting: _Chunk, waiters: Iterable[Waiter]) -> None:
    for waiter in waiters:
        for task_id in waiter.open_ids:
            waiting.setdefault(task_id, []).append(waiter)


def _is_silence(error: Exception) -> bool:
    return isinstance(error, LookUpFailed) and not isinstance(error, UnreadableResponse) and error.status is None
