"""Runs of single tasks, so many at a time: the next one begins as one ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.stack.records import DagRun
from tests.stack.stack import Stack

TASK = "generate"


@dataclass(frozen=True)
class Job:
    """
    A run that is to be started.

    :param dag_id: its DAG
    :param prompt: what its task asks for
    :param begin: called before it is started
    :param end: called with the finished run
    """

    dag_id: str
    prompt: str
    begin: Callable[[], None]
    end: Callable[[DagRun], None]


class Lane:
    """
    Runs jobs one after the other, so many at a time.

    :param stack: where they run
    :param name: beginning of the runs' ids
    :param width: how many at a time
    """

    def __init__(self, stack: Stack, name: str, width: int) -> None:
        self._stack = stack
        self._name = name
        self._width = width
        self._open: dict[str, Job] = {}
        self._started = 0

    @property
    def is_empty(self) -> bool:
        """True if nothing runs."""
        return not self._open

    def step(self, jobs: Iterator[Job]) -> None:
        """
        Take note of what has ended, and start what comes next.

        :param jobs: what comes next; none may be left
        """
        for run_id, job in list(self._open.items()):
            run = self._stack.client.run(job.dag_id, run_id)
            if run.is_finished:
                del self._open[run_id]
                job.end(run)
        while len(self._open) < self._width and (job := next(jobs, None)):
            self._started += 1
            run_id = f"{self._name}-{self._started:04}"
            job.begin()
            self._stack.client.trigger(job.dag_id, {"prompt": job.prompt}, run_id=run_id)
            self._open[run_id] = job
