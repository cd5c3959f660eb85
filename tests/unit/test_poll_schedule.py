"""The time of the next lookup is a pure decision."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.polling.schedule import (
    LATEST_END,
    TICKS_PER_INTERVAL,
    Lookup,
    PollSchedule,
    Ticks,
)

INTERVALS = st.floats(0.01, 1000)
MOMENTS = st.floats(0, 1e7)
PHASES = st.floats(0, 1, exclude_max=True)
FAR = 1e12


def schedules() -> st.SearchStrategy[PollSchedule]:
    return st.builds(PollSchedule, interval=INTERVALS, slowest=st.floats(0.01, 3600))


@st.composite
def faulty_lookups(draw: st.DrawFn, retry_after: st.SearchStrategy[float | None]) -> Lookup:
    now = draw(MOMENTS)
    faults, asked = draw(st.integers(1, 20)), draw(retry_after)
    return Lookup(asked_at=now, ended_at=now, lookups=faults, faults_in_a_row=faults, retry_after=asked)


def tolerance(moment: float) -> float:
    """Rounding errors of the conversion to the grid and back."""
    return 1e-9 * max(1.0, moment) + 1e-5


class TestDelay:
    def test_grows_from_half_the_interval_to_the_interval_and_not_beyond(self) -> None:
        schedule = PollSchedule(interval=8)
        assert [schedule.delay(lookups) for lookups in (1, 2, 3, 4, 1000)] == [4, 6, 8, 8, 8]

    def test_doubles_with_every_fault_up_to_the_slowest(self) -> None:
        schedule = PollSchedule(interval=5, slowest=60)
        assert [schedule.delay(1, faults) for faults in range(1, 6)] == [10, 20, 40, 60, 60]

    def test_is_at_least_what_the_gateway_asked_for(self) -> None:
        assert PollSchedule(interval=5).delay(1, 1, retry_after=90) == 90

    @given(schedules(), st.integers(1, 10_000), st.integers(0, 10_000), st.none() | st.floats(0, 1e6))
    def test_is_always_bounded(self, schedule: PollSchedule, lookups: int, faults: int, asked: float | None) -> None:
        delay = schedule.delay(lookups, faults, asked)
        longest = max(schedule.slowest, schedule.interval) if faults else schedule.interval
        assert schedule.interval / 2 <= delay <= max(longest, asked or 0.0)

    @given(schedules(), st.integers(1, 50), st.integers(0, 50))
    def test_never_shrinks(self, schedule: PollSchedule, lookups: int, faults: int) -> None:
        assert schedule.delay(lookups + 1, faults) >= schedule.delay(lookups, faults)
        assert schedule.delay(lookups, faults + 1) >= schedule.delay(lookups, faults)


class TestFirstLook:
    @given(schedules(), PHASES, MOMENTS, st.floats(0, 1000))
    def test_comes_at_once_if_there_was_none_lately(
        self, schedule: PollSchedule, phase: float, now: float, since: float
    ) -> None:
        last_tick = now - schedule.tick - since - tolerance(now)
        assert Ticks(phase).first(schedule, now=now, last_tick=last_tick) == now

    @given(schedules(), PHASES, MOMENTS, st.floats(0, 1000))
    def test_of_newcomers_falls_on_the_next_tick_of_the_others(
        self, schedule: PollSchedule, phase: float, now: float, since: float
    ) -> None:
        last_tick = now - min(since, schedule.tick * 0.99)
        ticks = Ticks(phase)
        due = ticks.first(schedule, now=now, last_tick=last_tick)
        assert due == ticks.after(now, schedule.tick)
        assert now - tolerance(now) <= due <= now + schedule.tick + tolerance(now)


class TestNextLookup:
    @given(schedules(), PHASES, MOMENTS, st.floats(0, 100), st.integers(1, 100))
    def test_comes_within_the_interval_while_all_goes_well(
        self, schedule: PollSchedule, phase: float, asked_at: float, took: float, lookups: int
    ) -> None:
        lookup = Lookup(asked_at=asked_at, ended_at=asked_at + took, lookups=lookups)
        due = Ticks(phase).following(schedule, lookup, end=FAR)
        tick = schedule.interval / TICKS_PER_INTERVAL
        assert due <= max(asked_at + schedule.interval, lookup.ended_at + tick) + tolerance(asked_at)
        # Never more often than a tick less than half the interval, and never before the response is there.
        assert due >= asked_at + schedule.interval / 2 - tick - tolerance(asked_at)
        assert due >= lookup.ended_at - tolerance(asked_at)

    @given(schedules(), PHASES, faulty_lookups(st.floats(0, 1e5)), st.floats(0, 1))
    def test_is_never_before_the_gateway_wants_it(
        self, schedule: PollSchedule, phase: float, lookup: Lookup, jitter: float
    ) -> None:
        due = Ticks(phase).following(schedule, lookup, end=FAR, jitter=jitter)
        now, asked = lookup.ended_at, lookup.retry_after or 0.0
        assert now + asked <= due + tolerance(now + asked)
        latest = 1.25 * max(schedule.slowest, schedule.interval, asked) + schedule.interval / TICKS_PER_INTERVAL
        assert due <= now + latest + tolerance(now)

    @given(schedules(), PHASES, faulty_lookups(st.none() | st.floats(0, 1e5)), st.floats(0, 1000))
    def test_is_never_later_than_the_end(
        self, schedule: PollSchedule, phase: float, lookup: Lookup, left: float
    ) -> None:
        end = lookup.ended_at + left
        due = Ticks(phase).following(schedule, lookup, end=end, jitter=1.0)
        assert due <= end + min(schedule.tick, LATEST_END) + tolerance(end)

    @given(schedules(), PHASES, MOMENTS, st.floats(0, 1))
    def test_after_a_pause_of_all_is_spread_over_an_interval(
        self, schedule: PollSchedule, phase: float, paused_until: float, jitter: float
    ) -> None:
        due = Ticks(phase).resumed(schedule, paused_until, end=FAR, jitter=jitter)
        tick = schedule.interval / TICKS_PER_INTERVAL
        assert paused_until <= due + tolerance(paused_until)
        assert due <= paused_until + schedule.interval + tick + tolerance(paused_until)


class TestNeighbours:
    @given(INTERVALS, PHASES, MOMENTS, st.floats(0, 1), st.floats(0, 1))
    def test_meet_on_few_ticks(self, interval: float, phase: float, start: float, one: float, other: float) -> None:
        schedule, ticks = PollSchedule(interval=interval), Ticks(phase)
        dues = set()
        for part in (one, other, 0.1, 0.3, 0.5, 0.7, 0.9):
            asked_at = start + part * interval
            dues.add(ticks.following(schedule, Lookup(asked_at=asked_at, ended_at=asked_at, lookups=9), end=FAR))
        assert len(dues) <= TICKS_PER_INTERVAL + 1

    @given(st.lists(PHASES, min_size=20, max_size=20, unique_by=lambda phase: math.floor(phase * 20)))
    def test_in_other_processes_do_not_look_in_step(self, phases: list[float]) -> None:
        lookup = Lookup(asked_at=1000.0, ended_at=1000.0, lookups=9)
        dues = {Ticks(phase).following(PollSchedule(interval=5), lookup, end=FAR) for phase in phases}
        assert max(dues) - min(dues) > 0.8
