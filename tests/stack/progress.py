"""Shows a DAG run while it runs: a live table on a terminal, a line per change anywhere else."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tests.stack.rest import DagRun, TaskInstance

_COLOURS = {"success": "green", "failed": "red", "upstream_failed": "red", "running": "cyan", "deferred": "magenta"}
_MEANINGS = {
    None: "waiting for its turn",
    "scheduled": "waiting for its turn",
    "queued": "waiting for a worker",
    "running": "on a worker",
    "deferred": "the image is being drawn; no worker is held",
    "up_for_retry": "will be tried again",
}


class RunProgress:
    """
    A context manager to hand to :meth:`tests.stack.rest.AirflowClient.wait_for_run`.

    :param console: where to show it
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._since: dict[tuple[str, int], tuple[str | None, float]] = {}
        self._live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, run: DagRun, tasks: Sequence[TaskInstance]) -> None:
        """
        Show how far it is.

        :param run: the run
        :param tasks: its tasks
        """
        changed = [task for task in tasks if self._note(task)]
        if self._live is not None:
            self._live.update(self._table(run, tasks))
            return
        for task in changed:
            self._console.print(f"{self._elapsed():6.1f} s  {_name(task)}: {_state(task)}", highlight=False)

    def _note(self, task: TaskInstance) -> bool:
        """Remember since when a task has been in its state; tell whether that is news."""
        key = (task.task_id, task.map_index)
        if key in self._since and self._since[key][0] == task.state:
            return False
        self._since[key] = (task.state, time.monotonic())
        return True

    def _table(self, run: DagRun, tasks: Sequence[TaskInstance]) -> Table:
        table = Table(title=f"{run.dag_id}  {self._elapsed():.0f} s", title_justify="left", box=None, padding=(0, 2))
        for column in ("", "task", "state", "for", ""):
            table.add_column(column)
        for task in tasks:
            mark = Text("●") if task.is_finished else Spinner("dots")
            _, since = self._since[task.task_id, task.map_index]
            table.add_row(
                mark,
                _name(task),
                Text(_state(task), style=_COLOURS.get(task.state or "", "")),
                "" if task.is_finished else f"{time.monotonic() - since:.0f} s",
                Text(_MEANINGS.get(task.state, ""), style="dim"),
            )
        return table

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


def _state(task: TaskInstance) -> str:
    return task.state or "waiting"


def _name(task: TaskInstance) -> str:
    return task.task_id if task.map_index < 0 else f"{task.task_id}[{task.map_index}]"
