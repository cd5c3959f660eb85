"""The tables at the end."""

from __future__ import annotations

from collections import Counter

from rich.table import Table

from tests.chaos.hostile.audit import DELAY, LATE_HEARTBEAT, MORE_MEMORY, Ended
from tests.chaos.hostile.experiment import Outcome, Plan


def figures_table(plan: Plan, outcome: Outcome) -> Table:
    """
    Say what others noticed of the attacks.

    :param plan: what was to be done
    :param outcome: what came of it
    """
    before, most = outcome.load
    title = f"A hostile gateway, seed {plan.seed}, {len(outcome.ended)} attacks; load {before:.1f}, at most {most:.1f}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for phase in outcome.phases:
        table.add_column(phase.name, justify="right")
    table.add_column("allowed", justify="right")
    rows = {
        "fair tasks": ([f"{len(phase.fair)}" for phase in outcome.phases], ""),
        "usual seconds of one": ([f"{phase.usual:.1f}" for phase in outcome.phases], ""),
        "most seconds of one": ([f"{phase.longest:.1f}" for phase in outcome.phases], f"< +{DELAY:g}"),
        "heartbeat late, seconds": ([f"{phase.heartbeat:.1f}" for phase in outcome.phases], f"{LATE_HEARTBEAT:g}"),
        "event loop blocked, seconds": ([f"{phase.blocked:.2f}" for phase in outcome.phases], f"{LATE_HEARTBEAT:g}"),
        "triggerer, MiB": ([f"{phase.triggerer:.0f}" for phase in outcome.phases], f"+{MORE_MEMORY:g}"),
        "process of a task, MiB": ([f"{phase.worker:.0f}" for phase in outcome.phases], f"+{MORE_MEMORY:g}"),
        "measurements": ([f"{phase.samples}" for phase in outcome.phases], ""),
    }
    for name, (cells, allowed) in rows.items():
        table.add_row(name, *cells, allowed)
    return table


def attacks_table(outcome: Outcome) -> Table:
    """
    Say how attacked tasks ended.

    :param outcome: what came of the experiment
    """
    table = Table(title="How attacked tasks ended", title_justify="left")
    for name in ("row", "attack", "tasks", "tries", "ended as (billed)"):
        table.add_column(name)
    by_case: dict[tuple[int, str], list[Ended]] = {}
    for task in outcome.ended:
        by_case.setdefault((int(task.row[1:]), task.case), []).append(task)
    for (row, case), tasks in sorted(by_case.items()):
        ends = Counter(_end(task) for task in tasks)
        words = ", ".join(f"{count} {end}" for end, count in ends.most_common())
        table.add_row(f"C{row}", case, str(len(tasks)), str(sum(task.tries for task in tasks)), words)
    return table


def _end(task: Ended) -> str:
    kinds = sorted({f"{kind} ({billed})" for kind, billed in task.failures})
    return " + ".join([*([f"landed {task.landed}"] if task.landed else []), *kinds]) or f"{task.state}, silent"
