"""Compare the parse time of the example DAGs with DAGs of ``EmptyOperator`` with the same tasks and edges.

A real ``airflow dag-processor`` parses them: every file in a process forked for it, after the processor itself has
imported what the file imports of Airflow. Run as a module, it is the processor of one folder.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from tests.stack.environment import ROOT, child_environment

EXAMPLES = ROOT / "dags_examples"
ROUNDS = 5
PASSES = 4
DESCRIBE = "--describe"
PLAIN, TASKFLOW, OURS = "EmptyOperator", "EmptyOperator, and @task where the examples have it", "the examples"

_FUNCTIONS = {"_PythonDecoratedOperator", "_BranchPythonDecoratedOperator"}


class Task(NamedTuple):
    """The properties of a task that its copy needs."""

    is_function: bool
    following: list[str]


Dags = dict[str, dict[str, Task]]


def measure() -> Table:
    """Let fresh processors parse in turns, and compare within each round."""
    with _folders() as folders:
        costs: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(ROUNDS):
            for name, folder in folders.items():
                costs[name].append(_run(folder, str(PASSES)))
        return _table(costs, files=len(list(folders[OURS].glob("*.py"))))


def _table(costs: dict[str, list[float]], files: int) -> Table:
    """Make a table of what parsing a folder once took, in CPU-milliseconds of the processes that parsed."""
    title = f"{files} DAG files parsed by the DAG processor, {ROUNDS} times {PASSES} passes each: median (min-max)"
    table = Table(title=title)
    for heading in ("DAG files", "CPU ms a file", "to the 1st", "to the 2nd"):
        table.add_column(heading, justify="left" if heading == "DAG files" else "right")
    for name, rounds in costs.items():
        table.add_row(
            name,
            _spread([cost / files for cost in rounds], 1),
            *(
                _spread([cost / other for cost, other in zip(rounds, costs[base], strict=True)], 2)
                for base in (PLAIN, TASKFLOW)
            ),
        )
    return table


def _spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


@contextmanager
def _folders() -> Iterator[dict[str, Path]]:
    """Make a folder for each variant: the examples, and copies of them."""
    with tempfile.TemporaryDirectory() as directory:
        folders = {name: Path(directory, str(number)) for number, name in enumerate((PLAIN, TASKFLOW, OURS))}
        for folder in folders.values():
            folder.mkdir()
        for path in sorted(EXAMPLES.glob("*.py")):
            shutil.copy(path, folders[OURS])
        for name, found in _run(folders[OURS], DESCRIBE).items():
            dags = {dag_id: {key: Task(*task) for key, task in tasks.items()} for dag_id, tasks in found.items()}
            Path(folders[PLAIN], name).write_text("\n".join(_copy_source(dags, functions=False)))
            Path(folders[TASKFLOW], name).write_text("\n".join(_copy_source(dags, functions=True)))
        for copy in (PLAIN, TASKFLOW):
            _run(folders[copy], DESCRIBE)
        yield folders


def _copy_source(dags: Dags, functions: bool) -> Iterator[str]:
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


def _run(folder: Path, *arguments: str) -> Any:
    """Return what a fresh process says of a folder; all have the same Airflow home, beside it."""
    environment = child_environment() | {
        "AIRFLOW_HOME": str(folder.parent / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "0",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "tests.benchmarks.parse_time", str(folder), *arguments]
    response = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(response.stdout.splitlines()[-1])


def describe(folder: Path) -> dict[str, Dags]:
    """Return the tasks of every DAG of every file, and leave a database behind.

    :raises RuntimeError: If a file cannot be parsed, which would be cheap.
    """
    airflow("db", "migrate")

    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(folder)
    if bag.import_errors:
        raise RuntimeError(f"files that cannot be parsed: {bag.import_errors}")
    found: dict[str, Dags] = {}
    for dag in bag.dags.values():
        tasks = {
            task.task_id: Task(task.task_type in _FUNCTIONS, sorted(task.downstream_task_ids)) for task in dag.tasks
        }
        found.setdefault(Path(dag.fileloc).name, {})[dag.dag_id] = tasks
    return found


def parse_all(passes: str) -> float:
    """Let a processor parse everything that often; return the CPU-milliseconds a pass of what it forked."""
    before = _children_cpu()
    airflow("dag-processor", "--num-runs", passes)
    return (_children_cpu() - before) * 1000 / int(passes)


def airflow(*arguments: str) -> None:
    """Run a command of Airflow's in this process."""
    from airflow.__main__ import main

    sys.argv = ["airflow", *arguments]
    main()


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    wanted, argument = Path(sys.argv[1]), sys.argv[2]
    print(json.dumps(describe(wanted) if argument == DESCRIBE else parse_all(argument)))
