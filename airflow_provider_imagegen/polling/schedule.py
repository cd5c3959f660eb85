"""When to look next: pure decisions about seconds, no clock and no dice of their own.

Everything here is in seconds of one monotonic clock, the event loop's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

DEFAULT_POLL_INTERVAL = 5.0
TICKS_PER_INTERVAL = 5
"""Neighbours whose lookups fall into the same fifth of the interval are looked up together."""
LATEST_END = 1.0
"""Seconds by which a wait may end later than asked for, at most, to end together with others."""
_ROUNDING = 1e-8
"""Share of a tick by which a moment may miss the grid and still lie on it: a tick plus an interval is a tick."""
_FIRST_SHARE, _GROWTH = 0.5, 1.5
_LARGEST_JITTER = 0.25
QUICKEST = 0.25
"""Seconds between lookups, at least, however quick the tasks are."""


@dataclass(frozen=True, kw_only=True)
class PollSchedule:
    """How often to look, and how much trouble to put up with.

    Between lookups the delay grows from half the interval to the interval, and not beyond: who asks for 5 s is
    to be noticed within 5 s. Only trouble, and a gateway that asks to wait, make it longer.

    :param interval: Seconds between lookups while all goes well, at most.
    :param slowest: Seconds between lookups at most, however long the trouble lasts.
    :param unreadable_limit: Answers in a row that may make no sense before giving up.
    :param late_by: For who holds a place that others wait for: how late the end of a task may be noticed, as a share
        of the time it takes; ``None`` where nobody waits.
    """

    interval: float = DEFAULT_POLL_INTERVAL
    slowest: float = 60.0
    unreadable_limit: int = 5
    late_by: float | None = None

    def paced(self, usual_time: float) -> PollSchedule:
        """Return the schedule for tasks that usually take so long.

        :param usual_time: Seconds; 0 if that is not known.
        """
        if self.late_by is None or not usual_time:
            return self
        # In whole steps: who has the same interval meets on the same ticks.
        steps = max(1, math.floor(self.late_by * usual_time / QUICKEST))
        return replace(self, interval=min(self.interval, steps * QUICKEST))

    def delay(self, looks: int, faults_in_a_row: int = 0, asked_to_wait: float | None = None) -> float:
        """Return the seconds from one lookup to the next.

        :param looks: Lookups so far.
        :param faults_in_a_row: Lookups that failed since the last good one; each doubles the interval.
        :param asked_to_wait: Seconds the gateway asked for, if it did.
        """
        if faults_in_a_row:
            backed_off = min(self.interval * 2.0 ** min(faults_in_a_row, 16), max(self.slowest, self.interval))
        else:
            backed_off = self.interval * min(1.0, _FIRST_SHARE * _GROWTH ** min(max(looks - 1, 0), 8))
        return max(backed_off, asked_to_wait or 0.0)

    @property
    def tick(self) -> float:
        """Seconds between two moments at which lookups are made."""
        return self.interval / TICKS_PER_INTERVAL


@dataclass(frozen=True, kw_only=True)
class Look:
    """A lookup that has been made, as far as it decides about the next.

    :param asked_at: The tick at which it was due; what one tick asks for in several requests stays together.
    :param answered_at: When it was over.
    :param looks: Lookups so far, this one included.
    :param faults_in_a_row: As :meth:`PollSchedule.delay` takes it.
    :param asked_to_wait: As :meth:`PollSchedule.delay` takes it.
    """

    asked_at: float
    answered_at: float
    looks: int
    faults_in_a_row: int = 0
    asked_to_wait: float | None = None


@dataclass(frozen=True)
class Ticks:
    """The moments at which one process looks: a grid, on which neighbours meet.

    All lookups but the first after a pause lie on it: so there are :data:`TICKS_PER_INTERVAL` moments in an interval,
    and at most so many incomplete requests, however slow the event loop is and whenever waiters come.

    :param phase: Where its grid lies, from 0 to 1; another in every process, so that they do not hammer in step.
    """

    phase: float = 0.0

    def before(self, moment: float, width: float) -> float:
        """Return the last tick that is not after ``moment``."""
        return (math.floor(moment / width - self.phase + _ROUNDING) + self.phase) * width

    def after(self, moment: float, width: float) -> float:
        """Return the first tick that is not before ``moment``."""
        return (math.ceil(moment / width - self.phase - _ROUNDING) + self.phase) * width

    def first(self, schedule: PollSchedule, *, now: float, last_tick: float, usual_end: float, end: float) -> float:
        """Return when to look for the first time: at once, or with those who come shortly after each other.

        :param now: The time.
        :param last_tick: When there was last a look for anybody.
        :param usual_end: When such tasks end at the earliest, as far as is known.
        :param end: When the waiting ends; it ends with a look.
        """
        soon = now if now - last_tick >= schedule.tick else self.after(now, schedule.tick)
        due = self.before(usual_end, schedule.tick)
        return min(due if due > now else soon, max(soon, self._last(schedule, end)))

    def following(self, schedule: PollSchedule, look: Look, *, end: float, jitter: float = 0.0) -> float:
        """Return when to look next.

        :param look: The last lookup.
        :param end: When the waiting ends; it ends with a look, whatever the gateway asked for.
        :param jitter: From 0 to 1: how much longer than it must to wait after a fault.
        """
        delay = schedule.delay(look.looks, look.faults_in_a_row, look.asked_to_wait)
        width = schedule.tick
        if look.faults_in_a_row:
            due = self.after(look.answered_at + delay * (1 + _LARGEST_JITTER * jitter), width)
        else:
            due = self.before(look.asked_at + delay, width)
            if due <= look.answered_at:
                due = self.after(look.answered_at, width)
        return min(due, self._last(schedule, end))

    def resumed(self, schedule: PollSchedule, held_until: float, *, end: float, jitter: float) -> float:
        """Return when to look after the whole connection had to wait; over one interval, so as not to rush.

        :param held_until: Until when it has to.
        :param end: When the waiting ends; it ends with a look.
        :param jitter: From 0 to 1: where in the interval.
        """
        return min(self.after(held_until + jitter * schedule.interval, schedule.tick), self._last(schedule, end))

    def _last(self, schedule: PollSchedule, end: float) -> float:
        return self.after(end, min(schedule.tick, LATEST_END))
