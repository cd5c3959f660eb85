"""
``python -m tests.chaos --kills 200``: kill random processes of a whole Airflow, then audit the bill.

Exit status: 0 if every image was billed once and is in S3, 1 if not.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from tests.chaos.experiment import Plan, run_experiment
from tests.chaos.journal import Journal
from tests.chaos.report import bill_table, history_table
from tests.stack.environment import CACHE


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the experiment that the command line asks for.

    :return: exit status
    """
    signal.signal(signal.SIGTERM, _leave)
    given = _parser().parse_args(arguments)
    logs: Path = given.logs
    plan = Plan(**{name: value for name, value in vars(given).items() if name != "logs"})
    shutil.rmtree(logs, ignore_errors=True)
    console = Console(highlight=False)
    console.print(f"Seed {plan.seed}; logs in {logs}", soft_wrap=True)
    journal = Journal(logs / "journal.log", console)
    try:
        outcome = run_experiment(plan, journal, logs)
    finally:
        journal.close()
    tables = (history_table(outcome), bill_table(plan, outcome))
    with (logs / "tables.txt").open("w") as file:
        for shown in (console, Console(file=file, width=120)):
            shown.print(*outcome.audit.findings, sep="\n", markup=False, soft_wrap=True)
            shown.print(*tables)
    return 0 if outcome.audit.is_clean and not outcome.unfinished else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Kill random processes of a whole Airflow that draws images, then audit the bill.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    plan = Plan(kills=200, seed=0)
    add = parser.add_argument
    add("--kills", type=int, default=plan.kills, help="how many processes to kill")
    add("--seed", type=int, default=secrets.randbelow(10_000), help="of the dice")
    add("--tasks", type=int, default=plan.tasks, help="how many tasks are in work at a time")
    add("--runs", type=int, default=plan.runs, help="in how many DAG runs at a time")
    add("--latency", default=plan.latency, help="seconds that an image takes")
    add("--pause", type=float, default=plan.pause, help="seconds between two kills, on average")
    add("--parallelism", type=int, default=plan.parallelism, help="how many tasks run at once")
    add("--limit", type=int, help="requests that the token allows at once, so that tasks wait for slots")
    add("--end-timeout", type=float, default=plan.end_timeout, help="seconds to wait for the end after the last kill")
    add("--logs", type=Path, default=CACHE / "chaos", help="directory of all logs; emptied first")
    return parser


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Turn a request to terminate into an orderly end."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
