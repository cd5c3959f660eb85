"""The progress of a batch in the log: one line every few seconds, and nothing about single images.

Every row is in one state: it waits, is in flight, is landing, has landed, or has failed.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from airflow_provider_imagegen.engine import claims, delivery, job, submit
from airflow_provider_imagegen.engine.batch.result_file import ResultFile
from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.landing import landing
from airflow_provider_imagegen.ledger import async_store

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
"""At the beginning; later a sixtieth of the time since then, so that a long batch has a short log."""
MAX_WARNINGS = 20
"""Rows whose failure is logged; the others are only in the manifest."""

_SAMPLES, _DURATIONS = 12, 100
_SUPPRESSED = (claims, delivery, job, submit, landing, async_store)
"""Modules that log single images."""


@dataclass(frozen=True)
class Counts:
    """The number of rows in each state.

    :param landed: Rows of which every image is in S3.
    :param failed: Rows that ended without.
    :param in_flight: Rows that are being submitted, or are at the gateway.
    :param landing: Rows whose images are made, and are on their way to S3.
    :param rate: Rows that ended per second, of late.
    :param seconds_each: How long rows took from their submit to their end, of late; ``None`` if none has ended yet.
    :param is_last: Whether there will be no more for now.
    """

    rows: int
    landed: int = 0
    failed: int = 0
    in_flight: int = 0
    landing: int = 0
    rate: float = 0.0
    seconds_each: float | None = None
    is_last: bool = False

    def __str__(self) -> str:
        parts = [
            f"{self.landed}/{self.rows} landed",
            f"{self.landing} landing",
            f"{self.in_flight} in flight",
            f"{self.failed} failed",
            f"{self.rate:.1f}/s",
        ]
        if (left := self.seconds_left) is not None:
            parts.append(f"about {_duration(left)} left")
        return " · ".join(parts)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all rows have ended, about; ``None`` if nothing tells."""
        at_work = self.in_flight + self.landing
        if self.seconds_each is None or not at_work:
            return None
        # The rate would not do: rows at work end together, and until the first of them ends it is zero. Those that
        # wait follow in turns, each as wide as what is at work; that is half done, on average.
        waiting = self.rows - self.landed - self.failed - at_work
        return self.seconds_each * (waiting / at_work + 0.5)


Report = Callable[[Counts], Awaitable[None]]
"""Shows users the progress of a batch."""


class Progress:
    """Takes the results of a batch, and reports their number at most every few seconds."""

    def __init__(self, rows: int, results: ResultFile, report: Report) -> None:
        self._rows = rows
        self._results = results
        self._report = report
        self._warnings = 0
        self._start = time.monotonic()
        # Rows that ended before a deferral say nothing about the rate now.
        self._samples = deque([(self._start, sum(self._ended))], maxlen=_SAMPLES)
        self._seconds: deque[float] = deque(maxlen=_DURATIONS)

    def add(self, result: RowResult, seconds: float | None = None) -> None:
        """Take a result, and log the reason of a failure unless there were many.

        :param seconds: Since the row began; ``None`` if that does not tell for how long another one takes.
        """
        self._results.add(result)
        if seconds is not None:
            self._seconds.append(seconds)
        if result.status == "landed":
            return
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            log.warning("Row %s: %s: %s", result.key, result.code, result.message)
        if self._warnings == MAX_WARNINGS:
            log.warning("Further row failures are not logged; see manifest.jsonl.")

    async def report_last(self, in_flight: int) -> None:
        """Report before the batch ends or defers."""
        await self._report(self._counts(in_flight, 0, is_last=True))

    async def report_regularly(self, at_work: Callable[[], tuple[int, int]]) -> None:
        """Report whenever something has changed, until this is cancelled.

        :param at_work: Returns how many rows are in flight, and how many are landing.
        """
        reported = (0, 0, 0, 0)
        while True:
            await asyncio.sleep(max(SECONDS_BETWEEN_LINES, (time.monotonic() - self._start) / 60))
            counts = self._counts(*at_work())
            now = (counts.landed, counts.failed, counts.in_flight, counts.landing)
            if now != reported:
                reported = now
                await self._report(counts)

    def _counts(self, in_flight: int, landing: int, *, is_last: bool = False) -> Counts:
        landed, failed = self._ended
        now, done = time.monotonic(), landed + failed
        since, before = self._samples[0]
        self._samples.append((now, done))
        rate = (done - before) / (now - since) if now > since else 0.0
        return Counts(self._rows, landed, failed, in_flight, landing, rate, self.seconds_each, is_last)

    @property
    def seconds_each(self) -> float | None:
        """How long rows took from their submit to their end, of late; ``None`` if none has ended yet."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else None

    @property
    def _ended(self) -> tuple[int, int]:
        tally = self._results.tally
        return tally["landed"], tally["failed"] + tally["unknown"]


_are_suppressed: contextvars.ContextVar[bool] = contextvars.ContextVar("imagegen_are_suppressed", default=False)


@contextmanager
def suppress_item_logs() -> Iterator[None]:
    """Suppress log lines about single images inside the block: a batch logs rows."""
    # A context variable, not a level: other tasks of the process, and the code around the batch, log as always.
    token = _are_suppressed.set(True)
    try:
        yield
    finally:
        _are_suppressed.reset(token)


def _is_shown(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or not _are_suppressed.get()


for _module in _SUPPRESSED:
    logging.getLogger(_module.__name__).addFilter(_is_shown)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
