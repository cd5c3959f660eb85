"""Counts and durations, for Airflow's statistics, a benchmark, or nobody; the meters are set once per process."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Receiver of counts and durations; Airflow's ``Stats`` fits."""

    def incr(self, stat: str, count: int = 1) -> object:
        """Add to a counter."""

    def timing(self, stat: str, dt: float) -> object:
        """Note a duration, in milliseconds."""


# Handed in rather than imported: the engine counts and must run without Airflow.
_meters: list[Meter] = []


def report_to(meter: Meter) -> None:
    """Report to a meter from now on, once however often this is called."""
    if meter not in _meters:
        _meters.append(meter)


def count(what: str, number: int = 1) -> None:
    """Add to the counter ``imagegen.<what>``."""
    for meter in _meters:
        if number:
            meter.incr(f"imagegen.{what}", number)


def took(what: str, seconds: float) -> None:
    """Note the duration ``imagegen.<what>``."""
    for meter in _meters:
        meter.timing(f"imagegen.{what}", seconds * 1000)
