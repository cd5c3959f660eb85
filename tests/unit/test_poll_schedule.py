"""When to look next is a pure decision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.watcher import PollSchedule


class TestDelay:
    def test_is_the_interval_while_all_goes_well(self) -> None:
        assert PollSchedule(interval=5).delay(0) == 5

    def test_doubles_with_every_fault_up_to_the_slowest(self) -> None:
        schedule = PollSchedule(interval=5, slowest=60)
        assert [schedule.delay(faults) for faults in range(1, 6)] == [10, 20, 40, 60, 60]

    def test_is_at_least_what_the_gateway_asked_for(self) -> None:
        assert PollSchedule(interval=5).delay(1, asked_to_wait=90) == 90

    @given(st.floats(0.01, 1000), st.integers(0, 10_000), st.none() | st.floats(0, 1e6))
    def test_is_always_bounded(self, interval: float, faults: int, asked: float | None) -> None:
        delay = PollSchedule(interval=interval).delay(faults, asked)
        assert interval <= delay <= max(60.0, interval, asked or 0.0)
