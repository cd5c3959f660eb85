"""Measure while others work: heartbeats in Airflow's job table, memory in the process table (Linux)."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy

from tests.chaos.hostile.audit import Phase
from tests.stack import process_guard
from tests.stack.stack import Stack
from tests.stack.workers import running_tasks

EVERY = 0.25
HEARTBEAT = 5.0
"""Seconds between two heartbeats, as configured."""
# Airflow writes the time of the heartbeat before: what counts is how far two of them are apart.
_LATEST = """
    SELECT extract(epoch FROM max(latest_heartbeat)), extract(epoch FROM clock_timestamp()) FROM job
    WHERE job_type = 'TriggererJob' AND state = 'running'
"""
_BLOCKED = re.compile(r"async thread was blocked for ([0-9.]+) seconds")
_KIB = 1 / 1024


class Sampler:
    """
    A thread that measures; a context manager.

    :param stack: a running one
    """

    def __init__(self, stack: Stack) -> None:
        self.phase = Phase("start")
        """Where the measurements go."""
        self._stack = stack
        self._over = threading.Event()
        self._engine = sqlalchemy.create_engine(stack.database.url, isolation_level="AUTOCOMMIT")
        self._thread = threading.Thread(target=self._measure, name="sampler")
        self._read = 0
        self._beat = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._engine.dispose()

    def _measure(self) -> None:
        with self._engine.connect() as connection:
            while not self._over.wait(EVERY):
                phase = self.phase
                latest, now = map(float, connection.execute(sqlalchemy.text(_LATEST)).one())
                phase.heartbeat = max(phase.heartbeat, self._lateness(latest, now))
                triggerer, workers = self._memory()
                phase.triggerer = max(phase.triggerer, triggerer)
                phase.worker = max(phase.worker, *workers, 0.0)
                phase.blocked = max(phase.blocked, *self._blocks(), 0.0)
                phase.samples += 1

    def _lateness(self, latest: float, now: float) -> float:
        """Return by how many seconds the last heartbeat that is known was late, or the next one is."""
        gap = latest - self._beat if self._beat else 0.0
        self._beat = latest
        # The heartbeat after the latest one is not shown yet, though it may have been made.
        return max(gap, now - latest - HEARTBEAT) - HEARTBEAT

    def _memory(self) -> tuple[float, list[float]]:
        airflow = self._stack.airflow
        triggerers = [pid for one in airflow.triggerers for pid in process_guard.descendants(one.pid)]
        tasks = [task.process for task in running_tasks(airflow.scheduler.pid)]
        return sum(memory_of(pid, "VmRSS") for pid in triggerers), [memory_of(pid, "VmHWM") for pid in tasks]

    def _blocks(self) -> list[float]:
        """Return for how long the triggerer's event loop stood still, as its log has said since the last call."""
        log = self._stack.logs / "triggerer-1.log"
        with log.open(errors="replace") as file:
            file.seek(self._read)
            text = file.read()
            self._read = file.tell()
        return [float(seconds) for seconds in _BLOCKED.findall(text)]


def memory_of(pid: int, field: str) -> float:
    """
    Return MiB of a process; 0 if it is gone.

    :param pid: its id
    :param field: ``VmRSS`` for now, ``VmHWM`` for the most since it began
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * _KIB
    return 0.0
