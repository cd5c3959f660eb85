"""``python -m tests.benchmarks [name …]``: runs the benchmarks, all or the named ones, and prints their tables.

What can be set in the environment, such as sizes, stands in the docstring of each benchmark's module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console, RenderableType

from tests.benchmarks import (
    base64_memory,
    batch_growth,
    batch_throughput,
    emulator_capacity,
    import_time,
    landing_memory,
    landing_throughput,
    ledger_cost,
    parse_time,
    slots,
    stopped_worker,
    waiting_tasks,
    whole_job,
)

BENCHMARKS: dict[str, Callable[[], RenderableType]] = {
    "import-time": import_time.measure,
    "parse-time": parse_time.measure,
    "landing-memory": landing_memory.measure,
    "landing-throughput": landing_throughput.measure,
    "ledger-cost": ledger_cost.measure,
    "base64-memory": base64_memory.measure,
    "emulator-capacity": emulator_capacity.measure,
    "waiting-tasks": waiting_tasks.measure,
    "batch-throughput": batch_throughput.measure,
    "batch-growth": batch_growth.measure,
    "whole-job": whole_job.measure,
    "slots": slots.measure,
    "stopped-worker": stopped_worker.measure,
}


def main(names: list[str]) -> int:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"no benchmark called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    console = Console()
    for name in names or BENCHMARKS:
        console.print(BENCHMARKS[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
