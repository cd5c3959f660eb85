"""Measure workers and CPU time of an Airflow from the process table (Linux); for `whole-job`.

Two times are kept apart. A task runs while there is a process of its own. A worker is held from taking the task off
the executor's queue until it is free for the next one, as the title of its process tells: often some seconds longer
at the end, for Airflow's supervisor may miss the end of the task and notice it only when its next heartbeat is due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.stack.airflow import Airflow

SAMPLING_INTERVAL = 0.05
_TITLE = "airflow worker -- LocalExecutor: "
_IDLE = f"{_TITLE}<idle>"


@dataclass
class WorkerTime:
    """Seconds so far, added up over all workers.

    :param held: for which workers were not free
    :param running: for which they had a living task
    """

    held: float = 0.0
    running: float = 0.0


class AirflowLoad:
    """Looks at the processes of one Airflow.

    :param airflow: with a LocalExecutor, and with all its workers already started
    :param parallelism: how many workers it has
    :raises RuntimeError: if it has another number of them
    """

    def __init__(self, airflow: Airflow, parallelism: int) -> None:
        components = [airflow.scheduler, airflow.dag_processor, airflow.api_server, *airflow.triggerers]
        self._keepers = [psutil.Process(component.pid) for component in components]
        self._workers = list(_workers_below(psutil.Process(airflow.scheduler.pid)))
        if len(self._workers) != parallelism:
            raise RuntimeError(f"{len(self._workers)} workers run, not {parallelism}")

    def cpu_seconds(self) -> float:
        """Return what all processes have used so far, with those of their children that have ended."""
        while True:
            processes = self._processes()
            try:
                used = sum(sum(process.cpu_times()[:4]) for process in processes)
            except psutil.NoSuchProcess:
                continue
            # A child that ends meanwhile would be counted twice, or not at all.
            if self._processes() == processes:
                return used

    def held_workers(self) -> list[int]:
        """Return the process ids of the workers that are not free.

        :raises FileNotFoundError: if a worker has died
        """
        return [worker for worker in self._workers if _title(worker) != _IDLE]

    @contextmanager
    def watching_workers(self) -> Iterator[WorkerTime]:
        """Add up from the beginning of the block to its end."""
        times, over = WorkerTime(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            watch = pool.submit(self._add_up, times, over)
            try:
                yield times
            finally:
                over.set()
            watch.result()

    def _add_up(self, times: WorkerTime, over: threading.Event) -> None:
        last = time.monotonic()
        while not over.wait(SAMPLING_INTERVAL):
            held = self.held_workers()
            running = sum(map(_has_a_task, held))
            now = time.monotonic()
            times.held += len(held) * (now - last)
            times.running += running * (now - last)
            last = now

    def _processes(self) -> set[psutil.Process]:
        return {process for keeper in self._keepers for process in (keeper, *keeper.children(recursive=True))}


def _workers_below(process: psutil.Process) -> Iterator[int]:
    """Yield the workers, but not the tasks below them, which carry the same title for a moment."""
    for child in process.children():
        if _title(child.pid).startswith(_TITLE):
            yield child.pid
        else:
            yield from _workers_below(child)


def _has_a_task(worker: int) -> bool:
    """Tell whether a worker has a child that lives: one that has ended has no title any more."""
    for child in Path(f"/proc/{worker}/task/{worker}/children").read_text().split():
        with suppress(OSError):
            if _title(int(child)):
                return True
    return False


def _title(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
