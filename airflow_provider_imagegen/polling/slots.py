"""The queue of Airflow tasks that wait for a free slot at the gateway of one connection.

A worker that waited for a slot itself would do nothing for hours: a token allows few requests at once, and mapped
tasks are many. So a refused task defers before it has submitted anything, and is woken when it pays to try again:

- **A task was seen to end.** Its slot is free, so the first in the queue is woken, and nobody else.
- **Nothing was seen to end for a while.** Slots become free that nobody here knows of: of tasks that end within
  their worker, in another triggerer, or of another tool with the same token. So the first in the queue is woken after
  a pause; not while the tasks seen here fill the connection's limit. The pause grows with every task that was woken
  like this and refused, and is short again once one was not: each costs a worker some seconds, for all of the queue.

The gateway's answer decides. A task that is woken and refused again comes back to its old place.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

from airflow_provider_imagegen.schemas import SlotWait

FIRST_PAUSE = 5.0
"""Seconds until a task is woken although no slot is known to be free."""
LONGEST_PAUSE = 60.0
"""Likewise after many of these were refused; jitter adds up to half of a pause."""
_GROWTH = 1.5
_KNOWN_AFTER = 45.0
"""Seconds after which a task that was woken and has not come back was probably not refused."""


@dataclass(eq=False)
class _Waiter:
    """One entry of the queue, with times of the event loop: the wall clock may jump."""

    # The highest priority first, then who was refused first.
    rank: tuple[int, float]
    refusals: int
    came: float
    not_before: float
    # From 0 to 1: two triggerers must not try at the same moments for ever.
    jitter: float = field(default_factory=random.random)
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class SlotQueue:
    """The waiters for a slot of one connection on one event loop.

    :param limit: Requests that the connection allows at once.
    :param in_flight: Returns how many tasks are known to be at the gateway.
    :param clock: Wall clock, in unix seconds; places in the queue come from other processes.
    """

    def __init__(self, limit: int, in_flight: Callable[[], int], clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._in_flight = in_flight
        self._clock = clock
        self._waiters: list[_Waiter] = []
        self._free = 0
        self._woken_at = 0.0
        # When tasks were woken although no slot was known to be free, by the times of their first refusals.
        self._tries: dict[float, float] = {}
        self._refused_tries = 0
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, slot: SlotWait, until: float) -> bool:
        """Wait in the queue; return true when it is this one's turn, false when the time is over.

        :param until: Unix seconds.
        """
        now = asyncio.get_running_loop().time()
        not_before = now + slot.not_before - self._clock()
        if self._tries.pop(slot.since, None) is not None:
            self._refused_tries += 1
        waiter = _Waiter((-slot.priority, slot.since), slot.refusals, now, not_before)
        insort(self._waiters, waiter, key=attrgetter("rank"))
        self._wake_up()
        try:
            async with asyncio.timeout(until - self._clock()):
                await waiter.turn.wait()
        except TimeoutError:
            return False
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._wake_up()
        return True

    def free(self, number: int) -> None:
        """Hand on slots that have become free."""
        self._free += number
        self._wake_up()
        # Left over while the gateway asks to wait, when others may take them: no more than it allows may come at once.
        self._free = min(self._free, self._limit)

    def _wake_up(self) -> None:
        """Wake those whose turn it is, and set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = asyncio.get_running_loop().time()
        for since in [since for since, woken_at in self._tries.items() if woken_at <= now - _KNOWN_AFTER]:
            del self._tries[since]
            self._refused_tries = 0
        while self._waiters and (left := self._due(first := self._first(now)) - now) <= 0:
            self._waiters.remove(first)
            first.turn.set()
            if not self._free:
                self._tries[first.rank[1]] = now
            self._free, self._woken_at = max(0, self._free - 1), now
        if not self._waiters:
            # Whoever comes next was refused after these became free.
            self._free = 0
        elif left < float("inf"):
            self._timer = asyncio.get_running_loop().call_later(left, self._wake_up)

    def _first(self, now: float) -> _Waiter:
        """Return the first in the queue; one with a long ``Retry-After``, as of one model's limit, holds up nobody."""
        ready = (waiter for waiter in self._waiters if waiter.not_before <= now + LONGEST_PAUSE)
        return next(ready, None) or min(self._waiters, key=attrgetter("not_before"))

    def _due(self, first: _Waiter) -> float:
        """Return when to wake the first in the queue; never, if only the end of a task can free a slot."""
        if self._free:
            return first.not_before
        if self._in_flight() >= self._limit:
            return float("inf")
        # Its own refusals count as well: a queue of one is a new one whenever it comes.
        refusals = max(self._refused_tries, first.refusals - 1)
        pause = min(FIRST_PAUSE * _GROWTH ** min(refusals, 16), LONGEST_PAUSE)
        return max(max(first.came, self._woken_at) + pause * (1 + first.jitter / 2), first.not_before)
