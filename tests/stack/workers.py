"""The running tasks of a LocalExecutor, found in the process table (Linux)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TITLE = "airflow worker -- LocalExecutor: "
_IDLE = f"{_TITLE}<idle>"


@dataclass(frozen=True)
class RunningTask:
    """
    A task on a worker.

    :param id: Airflow's id of this try
    :param supervisor: process id of the executor's worker, which supervises it
    :param process: process id of the one that runs the operator
    """

    id: str
    supervisor: int
    process: int

    def has_said(self, words: str) -> bool:
        """Return whether the log of this try, which its supervisor writes, contains some words."""
        for descriptor in Path(f"/proc/{self.supervisor}/fd").glob("*"):
            with suppress(OSError):
                log = descriptor.readlink()
                if log.name.startswith("attempt=") and words in log.read_text(errors="replace"):
                    return True
        return False

    def stop(self) -> bool:
        """Tell the supervisor to stop, as a deploy or an eviction does; return whether it was still there."""
        return self._kill(self.supervisor, signal.SIGTERM)

    def kill_process(self) -> bool:
        """Kill the one that runs the operator; return whether it was still there."""
        return self._kill(self.process)

    def kill_supervisor(self) -> bool:
        """Kill the supervisor and let the operator run on; return whether it was still there."""
        return self._kill(self.supervisor)

    def kill(self) -> bool:
        """Kill both, the supervisor first; return whether they were still there."""
        return self._kill(self.supervisor) and self._kill(self.process)

    def _kill(self, process: int, how: signal.Signals = signal.SIGKILL) -> bool:
        """Send a signal to a process unless its number has a new owner, or its owner has gone on to something else."""
        if not _title(process).endswith(self.id):
            return False
        with suppress(ProcessLookupError):
            os.kill(process, how)
            return True
        return False


def running_tasks(root: int) -> list[RunningTask]:
    """
    List the tasks whose operator runs now.

    Idle workers are not among them: one of those holds the lock of the executor's queue, which would die with it.

    :param root: a process above the scheduler
    """
    return sorted(_running_below(root, _children()), key=lambda running: running.supervisor)


def _running_below(root: int, children: dict[int, list[int]]) -> Iterator[RunningTask]:
    for child in children.get(root, []):
        title = _title(child)
        if not title.startswith(_TITLE):
            yield from _running_below(child, children)
        elif title != _IDLE:
            # A task process that has ended has no title any more, though its supervisor may linger.
            for process in children.get(child, []):
                if _title(process):
                    yield RunningTask(title.removeprefix(_TITLE), child, process)


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    return children


def _title(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""
