"""What parsing the example DAGs costs, against DAGs of nothing but EmptyOperator with the same tasks and edges.

As Airflow's DAG processor parses: every file in a process forked for it, after the processor itself has imported what
the file imports of Airflow. Run as a module, it is the processor of one folder.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from tests.stack.environment import ROOT, child_environment

EXAMPLES = ROOT / "dags_examples"
ROUNDS = 5
PASSES = 3
PLAIN, TASKFLOW, OURS = "EmptyOperator", "EmptyOperator, and @task where the examples have it", "the examples"

_FUNCTIONS = {"_PythonDecoratedOperator", "_BranchPythonDecoratedOperator"}


class Cost(NamedTuple):
    """What parsing a folder once took, in milliseconds.

    :param cpu: of the processes that parse
    :param wall: from fork to result, as the DAG processor counts
    """

    cpu: float
    wall: float


class Task(NamedTuple):
    """What a twin needs to know of a task."""

    is_function: bool
    following: list[str]


Dags = dict[str, dict[str, Task]]


def measure() -> Table:
    """Let fresh processors parse in turns, and compare within each round."""
    with _folders() as folders:
        costs: dict[str, list[Cost]] = {name: [] for name in folders}
        for _ in range(ROUNDS):
            for name, folder in folders.items():
                costs[name].append(Cost(*_run(folder)))
        return _table(costs, files=len(list(folders[OURS].glob("*.py"))))


def _table(costs: dict[str, list[Cost]], files: int) -> Table:
    title = f"Parsing {files} DAG files as the DAG processor does, {ROUNDS} fresh processors each: median (min-max)"
    table = Table(title=title)
    for heading in ("DAG files", "CPU ms a file", "wall ms a file", "CPU, to the 1st", "CPU, to the 2nd"):
        table.add_column(heading, justify="left" if heading == "DAG files" else "right")
    for name, rounds in costs.items():
        table.add_row(
            name,
            _spread([cost.cpu / files for cost in rounds], 1),
            _spread([cost.wall / files for cost in rounds], 1),
            *(
                _spread([cost.cpu / other.cpu for cost, other in zip(rounds, costs[base], strict=True)], 2)
                for base in (PLAIN, TASKFLOW)
            ),
        )
    return table


def _spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


@contextmanager
def _folders() -> Iterator[dict[str, Path]]:
    """Make a folder for each contender: the examples, and twins of them."""
    with tempfile.TemporaryDirectory() as directory:
        folders = {name: Path(directory, str(number)) for number, name in enumerate((PLAIN, TASKFLOW, OURS))}
        for folder in folders.values():
            folder.mkdir()
        for path in sorted(EXAMPLES.glob("*.py")):
            shutil.copy(path, folders[OURS])
        for name, found in _run(folders[OURS], "--describe").items():
            dags = {dag_id: {key: Task(*task) for key, task in tasks.items()} for dag_id, tasks in found.items()}
            Path(folders[PLAIN], name).write_text("\n".join(_twin(dags, functions=False)))
            Path(folders[TASKFLOW], name).write_text("\n".join(_twin(dags, functions=True)))
        yield folders


def _twin(dags: Dags, functions: bool) -> Iterator[str]:
    """Yield the lines of a DAG file with the same tasks and edges.

    :param functions: whether what is a function stays one
    """
    yield "from airflow.providers.standard.operators.empty import EmptyOperator"
    kept = {key for tasks in dags.values() for key, task in tasks.items() if task.is_function} if functions else set()
    yield f"from airflow.sdk import DAG{', task' if kept else ''}"
    for dag_id, tasks in dags.items():
        yield f"with DAG({dag_id!r}, schedule=None):"
        for name in tasks:
            if name in kept:
                yield f"    @task\n    def {name}():\n        return None\n    {name} = {name}()"
            else:
                yield f"    {name} = EmptyOperator(task_id={name!r})"
        yield from (f"    {name} >> {other}" for name, task in tasks.items() for other in task.following)


def _run(folder: Path, *options: str) -> Any:
    """Return what a fresh process says of a folder; all have the same Airflow home, beside it."""
    environment = child_environment() | {
        "AIRFLOW_HOME": str(folder.parent / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "tests.benchmarks.parse_time", str(folder), *options]
    answer = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def describe(folder: Path) -> dict[str, Dags]:
    """Return the tasks of every DAG of every file, and leave an ``airflow.cfg``, as ``airflow db migrate`` does."""
    from airflow.configuration import write_default_airflow_configuration_if_needed
    from airflow.dag_processing.dagbag import DagBag

    write_default_airflow_configuration_if_needed()
    bag = DagBag(folder)
    if bag.import_errors:
        raise RuntimeError(f"examples that cannot be parsed: {bag.import_errors}")
    found: dict[str, Dags] = {}
    for dag in bag.dags.values():
        tasks = {
            task.task_id: Task(task.task_type in _FUNCTIONS, sorted(task.downstream_task_ids)) for task in dag.tasks
        }
        found.setdefault(Path(dag.fileloc).name, {})[dag.dag_id] = tasks
    return found


def parse_all(folder: Path) -> Cost:
    """Parse a folder once to warm up, then several times; return the median."""
    paths = sorted(folder.glob("*.py"))
    passes = [[_parse(path) for path in paths] for _ in range(1 + PASSES)][1:]
    sums = [Cost(sum(cost.cpu for cost in each), sum(cost.wall for cost in each)) for each in passes]
    return Cost(statistics.median(cost.cpu for cost in sums), statistics.median(cost.wall for cost in sums))


def _parse(path: Path) -> Cost:
    import selectors
    import uuid

    import structlog
    from airflow.dag_processing.processor import DagFileProcessorProcess

    before, selector = _children_cpu(), selectors.DefaultSelector()
    process = DagFileProcessorProcess.start(
        id=uuid.uuid4(),
        path=path,
        bundle_path=path.parent,
        bundle_name="benchmark",
        dag_file_rel_path=path.name,
        callbacks=[],
        selector=selector,
        logger=structlog.get_logger(),
        logger_filehandle=open(os.devnull, "wb"),  # noqa: SIM115 - the process closes it
        subprocess_logs_to_stdout=False,
        client=None,
    )
    while not process.is_ready:
        for key, _ in selector.select(timeout=0.01):
            handle, on_close = key.data
            if not handle(key.fileobj):
                on_close(key.fileobj)
    wall = time.monotonic() - process.start_time
    process.close()
    if process.parsing_result is None or process.parsing_result.import_errors:
        raise RuntimeError(f"{path} cannot be parsed: {process.parsing_result}")
    return Cost((_children_cpu() - before) * 1000, wall * 1000)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    wanted = Path(sys.argv[1])
    print(json.dumps(describe(wanted) if "--describe" in sys.argv else parse_all(wanted)))
