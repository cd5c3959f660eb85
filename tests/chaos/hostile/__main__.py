"""
``python -m tests.chaos.hostile --minutes 10``: have a gateway attack a whole Airflow, and measure what others notice.

Exit status: 0 if all figures were kept and every failure is classified, 1 if not.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.chaos.hostile.experiment import Plan, run_hostile
from tests.chaos.hostile.report import attacks_table, figures_table
from tests.chaos.journal import Journal
from tests.stack.environment import CACHE


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the experiment that the command line asks for.

    :return: exit status
    """
    given = vars(_parser().parse_args(arguments))
    logs: Path = given.pop("logs")
    plan = Plan(**given)
    shutil.rmtree(logs, ignore_errors=True)
    console = Console(highlight=False)
    console.print(f"Seed {plan.seed}; logs in {logs}", soft_wrap=True)
    journal = Journal(logs / "journal.log", console)
    try:
        outcome = run_hostile(plan, journal, logs)
    finally:
        journal.close()
    with (logs / "tables.txt").open("w") as file:
        for shown in (console, Console(file=file, width=160)):
            shown.print(attacks_table(outcome))
            shown.print(figures_table(plan, outcome))
            shown.print(*outcome.findings, *outcome.misses, sep="\n", markup=False, soft_wrap=True)
    return 1 if outcome.findings or outcome.misses else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.hostile",
        description="Have a hostile gateway attack tasks of a whole Airflow, and measure what others notice of it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    plan = Plan(seed=0)
    add = parser.add_argument
    add("--minutes", type=float, default=plan.minutes, help="how long to attack")
    add("--cases", type=int, default=plan.cases, help="how many attacks, instead of how long")
    add("--seed", type=int, default=secrets.randbelow(10_000), help="of the attacks")
    add("--baseline", type=float, default=plan.baseline, help="seconds of each of the two measurements before")
    add("--width", type=int, default=plan.width, help="how many attacked tasks run at a time")
    add("--logs", type=Path, default=CACHE / "hostile", help="directory of all logs; emptied first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
