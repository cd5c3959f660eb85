"""The progress of a batch in the log: one line every few seconds, and nothing of every single image."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from airflow_provider_imagegen.engine import delivery, job, submit
from airflow_provider_imagegen.landing import landing
from airflow_provider_imagegen.ledger import async_store

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
"""At the beginning; later a sixtieth of the time since then, so that a long batch has a short log."""
MAX_WARNINGS = 20
"""Rows whose failure is logged; the others are only in the manifest."""

_SAMPLES = 12
_SUPPRESSED = (delivery, job, submit, landing, async_store)
"""Modules that log single images."""


@dataclass(frozen=True)
class Counts:
    """How many rows are where.

    :param rows: Number of rows.
    :param landed: Rows of which every image is in S3.
    :param failed: Rows that ended without.
    :param in_flight: Requests at the gateway.
    :param rate: Rows that ended per second, of late.
    :param is_last: Whether there will be no more for now.
    """

    rows: int
    landed: int = 0
    failed: int = 0
    in_flight: int = 0
    rate: float = 0.0
    is_last: bool = False

    @property
    def done(self) -> int:
        """Rows with nothing more to wait for."""
        return self.landed + self.failed

    def __str__(self) -> str:
        words = [
            f"{self.landed}/{self.rows} landed",
            f"{self.in_flight} in flight",
            f"{self.failed} failed",
            f"{self.rate:.1f}/s",
        ]
        if self.rate and self.done < self.rows:
            words.append(f"about {_duration((self.rows - self.done) / self.rate)} left")
        return " · ".join(words)


Tell = Callable[[Counts], Awaitable[None]]
"""Tells users how far a batch is."""


class Progress:
    """Counts the rows of a batch, and tells now and then.

    :param rows: How many there are.
    :param tell: Called with the counts, at most every few seconds.
    """

    def __init__(self, rows: int, tell: Tell) -> None:
        self._rows = rows
        self._tell = tell
        self._landed = self._failed = self._warnings = 0
        self._start = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque([(self._start, 0)], maxlen=_SAMPLES)
        self._told = (0, 0)
        self.in_flight: Callable[[], int] = lambda: 0
        """Asked for the number of requests at the gateway."""

    def begin_with(self, landed: int, failed: int) -> None:
        """Count rows that ended before this began; they say nothing of how fast it goes."""
        self._landed, self._failed = landed, failed
        self._samples[0] = (self._start, landed + failed)

    def landed(self) -> None:
        """Count a row that landed."""
        self._landed += 1

    def failed(self, key: str, words: str) -> None:
        """Count a row that did not, and say why, unless that was said of many already."""
        self._failed += 1
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            log.warning("Row %s: %s", key, words)
        if self._warnings == MAX_WARNINGS:
            log.warning("Further row failures are not logged; see manifest.jsonl.")

    async def tell_at_last(self) -> None:
        """Tell how far it is, before all is over or somebody else waits."""
        await self._tell(replace(self._counts(), is_last=True))

    async def tell_regularly(self) -> None:
        """Tell how far it is whenever that has changed, until this is cancelled."""
        while True:
            await asyncio.sleep(max(SECONDS_BETWEEN_LINES, (time.monotonic() - self._start) / 60))
            counts = self._counts()
            if (counts.done, counts.in_flight) != self._told:
                self._told = counts.done, counts.in_flight
                await self._tell(counts)

    def _counts(self) -> Counts:
        now, done = time.monotonic(), self._landed + self._failed
        since, before = self._samples[0]
        self._samples.append((now, done))
        rate = (done - before) / (now - since) if now > since else 0.0
        return Counts(self._rows, self._landed, self._failed, self.in_flight(), rate)


_are_suppressed: contextvars.ContextVar[bool] = contextvars.ContextVar("imagegen_are_suppressed", default=False)


@contextmanager
def suppress_item_logs() -> Iterator[None]:
    """Suppress log lines of single images inside the block: a batch logs rows."""
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
