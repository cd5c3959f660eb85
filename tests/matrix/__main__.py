"""
``python -m tests.matrix``: run the suite on every Airflow and Python that is promised, and on the lowest versions.

Exit status: 0 if all passed everywhere, 1 if not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.matrix.cells import LOWEST, Cell
from tests.matrix.pythons import VERSIONS, find_pythons
from tests.stack.environment import ROOT

AIRFLOWS = ("3.1", "3.2", "3.3", LOWEST)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run what the command line asks for.

    :return: exit status
    """
    given = _parser().parse_args(arguments)
    console = Console(highlight=False)
    pythons = find_pythons()
    for version in given.pythons:
        if version not in pythons:
            console.print(f"Python {version} is not installed here: left out")
    cells = _cells(given.airflows, {version: pythons[version] for version in given.pythons if version in pythons})
    table = Table("Airflow", "Python", "passed", "failed", "skipped", "minutes", title="Tests")
    worst = 0 if cells else 1
    for cell in cells:
        log = f"{cell.home.relative_to(ROOT)}.log"
        console.print(f"Airflow {cell.airflow}, Python {cell.python}: {log}")
        cell.install()
        result = cell.run(given.tests)
        worst = max(worst, min(1, result.exit_status))
        failed = str(result.failed) if result.exit_status in {0, 1} else f"did not run (status {result.exit_status})"
        table.add_row(
            cell.airflow, cell.python, str(result.passed), failed, str(result.skipped), f"{result.seconds / 60:.1f}"
        )
    console.print(table)
    return worst


def _cells(airflows: Sequence[str], pythons: dict[str, Path]) -> list[Cell]:
    """Every Airflow on every Python; the lowest versions on the lowest Python only."""
    every = [Cell(airflow, version, path) for airflow in airflows for version, path in pythons.items()]
    return [cell for cell in every if cell.airflow != LOWEST or cell.python == VERSIONS[0]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--airflows", nargs="+", choices=AIRFLOWS, default=AIRFLOWS)
    parser.add_argument("--pythons", nargs="+", choices=VERSIONS, default=VERSIONS)
    parser.add_argument("--tests", nargs="+", default=[], help="what to run instead of everything")
    return parser


if __name__ == "__main__":
    sys.exit(main())
