"""The tables at the end."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from tests.chaos.dice import Target
from tests.chaos.experiment import Outcome, Plan


def bill_table(plan: Plan, outcome: Outcome) -> Table:
    """
    Say what was killed and what it cost.

    :param plan: what was to be done
    :param outcome: what came of it
    """
    table = _table(f"Random kills, seed {plan.seed}, {outcome.seconds:.0f} s")
    _add(table, {f"killed: {target}": outcome.kills.get(target, 0) for target in Target})
    _add(table, {"killed: all": sum(outcome.kills.values())})
    _add(
        table,
        {
            "running tasks that died with a scheduler": outcome.took_along,
            "DAG runs": outcome.runs,
            "tasks": outcome.tasks,
            "tries": outcome.tries,
            "tasks cleared after their last retry": outcome.cleared,
            "scheduler restarts because nothing moved": outcome.stalls,
            "schedulers and triggerers that ended by themselves": outcome.crashes,
            "runs that did not succeed": outcome.unfinished,
            "paid requests": outcome.totals["submits"],
            "lookup requests": outcome.totals["lookup_requests"],
        },
    )
    audit = outcome.audit
    _add(table, {"images billed": audit.billed, "images landed": audit.landed, "ledger records": audit.recorded})
    for words, count in (("duplicates", audit.duplicates), ("lost", audit.lost)):
        table.add_row(words, str(count), style="bold red" if count else "bold green")
    return table


def history_table(outcome: Outcome) -> Table:
    """
    Say where the tries died, and how the next ones went on.

    :param outcome: what came of the experiment
    """
    table = _table("How the tries went")
    _add(table, {f"died: {stage}": count for stage, count in outcome.history.died.items()})
    _add(table, outcome.history.helped)
    _add(table, {f"Airflow noted: {event}": count for event, count in outcome.events.items()})
    _add(table, {f"logged: {error}": count for error, count in outcome.history.errors.items()})
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("count", justify="right")
    return table


def _add(table: Table, rows: Mapping[str, int]) -> None:
    for words, count in rows.items():
        table.add_row(words, str(count))
    table.add_section()
