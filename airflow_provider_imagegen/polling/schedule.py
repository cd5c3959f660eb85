"""Due times of lookups: pure decisions about seconds of the event loop's clock, without a clock or dice."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_POLL_INTERVAL = 5.0
TICKS_PER_INTERVAL = 5
"""Neighbours whose lookups fall into the same fifth of the interval are looked up together."""
LATEST_END = 1.0
"""Seconds by which a wait may end later than asked for, at most, to end together with others."""

# Share of a tick by which a moment may miss the grid and still lie on it. Floating point does not bring a tick plus an
# interval back to a tick exactly; rounded up, every lookup would lose a whole tick.
_ROUNDING = 1e-8
_FIRST_SHARE, _GROWTH = 0.5, 1.5
_LARGEST_JITTER = 0.25


@dataclass(frozen=True, kw_only=True)
class PollSchedule:
    """Frequency of lookups, and the failures to tolerate.

    Between lookups the delay grows from half the interval to the interval and not beyond: a task is noticed within the
    interval. Only failures, and a gateway that asks to wait, make it longer.

    :param interval: Seconds between lookups while all goes well, at most.
    :param slowest: Seconds between lookups at most, however long the failures last.
    :param unreadable_limit: Unreadable responses in a row before giving up.
    """

    interval: float = DEFAULT_POLL_INTERVAL
    slowest: float = 60.0
    unreadable_limit: int = 5

    def delay(self, lookups: int, faults_in_a_row: int = 0, retry_after: float | None = None) -> float:
        """Return the seconds from one lookup to the next.

        :param faults_in_a_row: Lookups that failed since the last good one; each doubles the interval.
        :param retry_after: Seconds the gateway asked for, if it did.
        """
        # Both exponents are bounded: after days of failures a float would overflow.
        if faults_in_a_row:
            backed_off = min(self.interval * 2.0 ** min(faults_in_a_row, 16), max(self.slowest, self.interval))
        else:
            backed_off = self.interval * min(1.0, _FIRST_SHARE * _GROWTH ** min(max(lookups - 1, 0), 8))
        return max(backed_off, retry_after or 0.0)

    @property
    def tick(self) -> float:
        """Seconds between two moments at which lookups are made."""
        return self.interval / TICKS_PER_INTERVAL


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """A lookup that has been made, as far as it decides about the next.

    :param asked_at: The tick at which it was due.
    :param lookups: This and the following are as :meth:`PollSchedule.delay` takes them.
    """

    asked_at: float
    ended_at: float
    lookups: int
    faults_in_a_row: int = 0
    retry_after: float | None = None


@dataclass(frozen=True)
class Ticks:
    """The grid of moments at which one process makes lookups.

    There are :data:`TICKS_PER_INTERVAL` moments in an interval, so there are at most as many requests that are not
    full, however slow the event loop is and whenever waiters come.

    :param phase: Position of the grid, from 0 to 1.
    """

    # Each process has a phase of its own: triggerers that poll in step would hit the gateway at the same moment.
    phase: float = 0.0

    def before(self, moment: float, width: float) -> float:
        """Return the last tick that is not after ``moment``."""
        return (math.floor(moment / width - self.phase + _ROUNDING) + self.phase) * width

    def after(self, moment: float, width: float) -> float:
        """Return the first tick that is not before ``moment``."""
        return (math.ceil(moment / width - self.phase - _ROUNDING) + self.phase) * width

    def first(self, schedule: PollSchedule, *, now: float, last_tick: float) -> float:
        """Return when to look up for the first time, if anybody's last lookup was at ``last_tick``."""
        # At once, unless others were looked up just now: triggers that start together share their second tick.
        return now if now - last_tick >= schedule.tick else self.after(now, schedule.tick)

    def following(self, schedule: PollSchedule, lookup: Lookup, *, end: float, jitter: float = 0.0) -> float:
        """Return when to look up next.

        :param end: Time at which the wait ends; it ends with a lookup, whatever the gateway asked for.
        :param jitter: From 0 to 1: share of the extra pause after a failure.
        """
        delay = schedule.delay(lookup.lookups, lookup.faults_in_a_row, lookup.retry_after)
        width = schedule.tick
        if lookup.faults_in_a_row:
            due = self.after(lookup.ended_at + delay * (1 + _LARGEST_JITTER * jitter), width)
        else:
            # From the tick, not from the response: the requests of one tick are answered one after the other, and
            # neighbours that were asked together would drift apart by the time the gateway takes.
            due = self.before(lookup.asked_at + delay, width)
            if due <= lookup.ended_at:
                due = self.after(lookup.ended_at, width)
        return min(due, self._last(schedule, end))

    def resumed(self, schedule: PollSchedule, paused_until: float, *, end: float, jitter: float) -> float:
        """Return when to look up after a pause of the whole connection.

        :param end: Time at which the wait ends; it ends with a lookup.
        :param jitter: From 0 to 1: position in the interval after the pause.
        """
        # Spread over an interval: everybody at once is what the gateway has just refused.
        return min(self.after(paused_until + jitter * schedule.interval, schedule.tick), self._last(schedule, end))

    def _last(self, schedule: PollSchedule, end: float) -> float:
        return self.after(end, min(schedule.tick, LATEST_END))
