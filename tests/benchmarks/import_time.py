"""Measure the time that importing an operator module adds to ``airflow.sdk``, in milliseconds."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys

from rich.table import Table

RUNS = 7
MODULES = ("airflow_provider_imagegen.operators.imagegen", "airflow.providers.amazon.aws.operators.s3")
_LINE = re.compile(r"import time:\s+\d+ \|\s+(?P<cumulative>\d+) \| (?P<indent>\s*)(?P<module>\S+)$")


def measure() -> Table:
    table = Table(title=f"Import time beyond airflow.sdk, ms, {RUNS} runs each (python -X importtime)")
    for heading in ("module", "min", "median", "max"):
        table.add_column(heading, justify="left" if heading == "module" else "right")
    for module in ("airflow.sdk", *MODULES):
        _milliseconds(module)  # fills the bytecode cache
        times = sorted(_milliseconds(module) for _ in range(RUNS))
        table.add_row(module, *(f"{value:.1f}" for value in (times[0], statistics.median(times), times[-1])))
    return table


def _milliseconds(module: str) -> float:
    """Import ``airflow.sdk`` first, then the module; return what the second import took in all."""
    command = [sys.executable, "-X", "importtime", "-c", f"import airflow.sdk\nimport {module}"]
    trace = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    outermost = [match for match in map(_LINE.match, trace.splitlines()) if match and match["indent"] == ""]
    first = next(i for i, match in enumerate(outermost) if match["module"] == "airflow.sdk")
    chosen = outermost[first : first + 1] if module == "airflow.sdk" else outermost[first + 1 :]
    return sum(int(match["cumulative"]) for match in chosen) / 1000
