"""What parsing the example DAGs costs, against DAGs of nothing but EmptyOperator with the same tasks and edges.

As Airflow's DAG processor parses: every file in a process forked for it, after the processor itself has imported what
the file imports of Airflow. Run as a module, it is the processor of one folder.
"""

from __future__ import annotations

import importlib
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
PROVIDER = "airflow_provider_imagegen"


class Cost(NamedTuple):
    """What parsing a folder once took, in milliseconds.

    :param cpu: of the processes that parse
    :param wall: from fork to result, as the DAG processor counts
    """

    cpu: float
    wall: float


def measure() -> Table:
    """Let fresh processors parse in turns, and compare within each round."""
    with _folders() as (ours, empty):
        contenders = {
            "EmptyOperator": (empty, []),
            "examples": (ours, []),
            "examples, our modules imported before": (ours, ["--import-first"]),
        }
        costs: dict[str, list[Cost]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, (folder, options) in contenders.items():
                costs[name].append(Cost(*_run(folder, *options)))
        return _table(costs, files=len(list(ours.glob("*.py"))))


def _table(costs: dict[str, list[Cost]], files: int) -> Table:
    title = f"Parsing {files} DAG files as the DAG processor does, {ROUNDS} fresh processors each: median (min-max)"
    table = Table(title=title)
    for heading in ("DAG files", "CPU ms a file", "wall ms a file", "CPU, ratio", "wall, ratio"):
        table.add_column(heading, justify="left" if heading == "DAG files" else "right")
    base = next(iter(costs.values()))
    for name, rounds in costs.items():
        pairs = list(zip(rounds, base, strict=True))
        table.add_row(
            name,
            _spread([cost.cpu / files for cost in rounds], 1),
            _spread([cost.wall / files for cost in rounds], 1),
            _spread([cost.cpu / other.cpu for cost, other in pairs], 2),
            _spread([cost.wall / other.wall for cost, other in pairs], 2),
        )
    return table


def _spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


@contextmanager
def _folders() -> Iterator[tuple[Path, Path]]:
    """Make two folders: the examples, and their twins of EmptyOperator."""
    with tempfile.TemporaryDirectory() as directory:
        ours, empty = Path(directory, "ours"), Path(directory, "empty")
        ours.mkdir()
        empty.mkdir()
        for path in sorted(EXAMPLES.glob("*.py")):
            shutil.copy(path, ours)
        for name, dags in _run(ours, "--describe").items():
            Path(empty, name).write_text("".join(_twin(dags)))
        yield ours, empty


def _twin(dags: dict[str, dict[str, list[str]]]) -> Iterator[str]:
    yield "from airflow.providers.standard.operators.empty import EmptyOperator\nfrom airflow.sdk import DAG\n"
    for dag_id, tasks in dags.items():
        yield f"with DAG({dag_id!r}, schedule=None):\n"
        yield f"    tasks = {{name: EmptyOperator(task_id=name) for name in {list(tasks)!r}}}\n"
        yield from (f"    tasks[{a!r}] >> tasks[{b!r}]\n" for a, following in tasks.items() for b in following)


def _run(folder: Path, *options: str) -> Any:
    """Return what a fresh process says of a folder."""
    with tempfile.TemporaryDirectory() as home:
        environment = child_environment() | {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        }
        command = [sys.executable, "-m", "tests.benchmarks.parse_time", str(folder), *options]
        answer = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def describe(folder: Path) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return the tasks of every DAG of every file, and what follows them."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(folder)
    if bag.import_errors:
        raise RuntimeError(f"examples that cannot be parsed: {bag.import_errors}")
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    for dag in bag.dags.values():
        tasks = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
        found.setdefault(Path(dag.fileloc).name, {})[dag.dag_id] = tasks
    return found


def parse_all(folder: Path, import_first: bool) -> Cost:
    """Parse a folder once to warm up, then several times; return the median.

    :param import_first: whether this process imports our modules, which the DAG processor leaves to each file
    """
    paths = sorted(folder.glob("*.py"))
    if import_first:
        for name in (
            "operators.imagegen",
            "operators.batch",
            "operators.landing",
            "decorators.imagegen",
            "gallery.addresses",
        ):
            importlib.import_module(f"{PROVIDER}.{name}")
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
    print(json.dumps(describe(wanted) if "--describe" in sys.argv else parse_all(wanted, "--import-first" in sys.argv)))
