"""Who is to be looked up when: waiters in the order of their due times, cheap for tens of thousands.

Due times lie on a grid, so waiters are kept in one list per moment, and only the moments are sorted.
"""

from __future__ import annotations

import heapq

from airflow_provider_imagegen.polling.waiter import Waiter


class DueTimes:
    """Waiters by due time; those that left in the meantime are dropped when their time comes."""

    def __init__(self) -> None:
        self._moments: list[float] = []
        self._waiters: dict[float, list[Waiter]] = {}

    def add(self, waiter: Waiter, due: float) -> None:
        """Put a waiter in its place."""
        there = self._waiters.get(due)
        if there is None:
            heapq.heappush(self._moments, due)
            self._waiters[due] = [waiter]
        else:
            there.append(waiter)

    @property
    def next(self) -> float | None:
        """The earliest due time."""
        return self._moments[0] if self._moments else None

    def take(self, now: float) -> list[Waiter]:
        """Remove and return all who are due."""
        taken: list[Waiter] = []
        while self._moments and self._moments[0] <= now:
            taken += self._waiters.pop(heapq.heappop(self._moments))
        return [waiter for waiter in taken if not waiter.is_over]

    def take_early(self, free: int, now: float) -> list[Waiter]:
        """Remove and return who may ride along in places that would stay empty; the next ones due first.

        :param free: Ids that still fit.
        :param now: The time.
        """
        taken: list[Waiter] = []
        while self._moments and free > 0:
            there = self._waiters[self._moments[0]]
            while there and (there[-1].is_over or self._may_ride(there[-1], free, now)):
                waiter = there.pop()
                if not waiter.is_over:
                    taken.append(waiter)
                    free -= len(waiter.open_ids)
            if there:
                break
            del self._waiters[heapq.heappop(self._moments)]
        return taken

    def clear(self) -> None:
        """Forget everybody."""
        self._moments.clear()
        self._waiters.clear()

    @staticmethod
    def _may_ride(waiter: Waiter, free: int, now: float) -> bool:
        rested = now - waiter.asked_at >= waiter.schedule.interval / 2
        return rested and not waiter.faults and len(waiter.open_ids) <= free
