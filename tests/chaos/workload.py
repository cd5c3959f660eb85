"""Trigger DAG runs: new ones as older ones finish, and clear tasks that have no retries left."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.journal import Journal
from tests.stack.rest import AirflowClient, TaskInstance

DAG_ID = "chaos"
SOURCE = "prompts"
TASK = "generate"
_MOST_CLEARS = 8
"""Times that a run is cleared before it is given up."""


@dataclass
class Run:
    """A run of the DAG, as last seen."""

    id: str
    state: str = "queued"
    tasks: list[TaskInstance] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """True while the run is not finished."""
        return self.state not in {"success", "given up"}


class Workload:
    """
    The runs of one experiment.

    :param client: of the Airflow they run in
    :param name: beginning of their ids
    :param tasks_per_run: how many images a run draws
    :param journal: where it tells
    """

    def __init__(self, client: AirflowClient, name: str, tasks_per_run: int, journal: Journal) -> None:
        self.runs: list[Run] = []
        self.clears: Counter[str] = Counter()
        """Number of clears of failed tasks, by run."""
        self.cleared_tasks = 0
        self._client = client
        self._name = name
        self._tasks_per_run = tasks_per_run
        self._journal = journal
        self._last_change = time.monotonic()

    @property
    def open_runs(self) -> list[Run]:
        """Those that are not finished."""
        return [run for run in self.runs if run.is_open]

    @property
    def quiet_for(self) -> float:
        """Seconds since something was last seen to happen to a task."""
        return time.monotonic() - self._last_change

    def begin(self, count: int) -> None:
        """Start so many runs and wait until the first of them has something to draw."""
        self._client.wait_for_dag(DAG_ID)
        self.fill_up(count)
        self._client.wait_for_task(DAG_ID, self.runs[0].id, SOURCE, states=["success"])

    def fill_up(self, count: int) -> None:
        """Start runs until so many are open."""
        for _ in range(count - len(self.open_runs)):
            run = Run(f"{self._name}-{len(self.runs) + 1:03}")
            self._client.trigger(DAG_ID, {"tasks": self._tasks_per_run}, run_id=run.id)
            self.runs.append(run)
            self.forget_the_quiet()

    def look(self) -> None:
        """See how far the open runs are, and clear what failed in those that have ended."""
        for run in self.open_runs:
            tasks = self._client.task_instances(DAG_ID, run.id)
            run.state = self._client.run(DAG_ID, run.id).state
            if tasks != run.tasks:
                run.tasks = tasks
                self.forget_the_quiet()
            if run.state == "success":
                self._journal.tell(f"run {run.id} succeeded; tries: {sum(task.try_number for task in tasks)}")
            elif run.state == "failed":
                self._clear(run)

    def _clear(self, run: Run) -> None:
        if self.clears[run.id] == _MOST_CLEARS:
            run.state = "given up"
            self._journal.tell(f"run {run.id} has failed {_MOST_CLEARS + 1} times; given up")
            return
        failed = [task for task in run.tasks if task.state in {"failed", "upstream_failed"}]
        names = [task.task_id if task.map_index < 0 else (task.task_id, task.map_index) for task in failed]
        self._journal.tell(f"run {run.id} failed: clearing {names}")
        self._client.clear(DAG_ID, run.id, names, downstream=True)
        self.clears[run.id] += 1
        self.cleared_tasks += len(failed)
        self.forget_the_quiet()

    def forget_the_quiet(self) -> None:
        """Measure the quiet from now."""
        self._last_change = time.monotonic()
