"""``python -m tests.benchmarks [name …]``: runs the benchmarks, all or the named ones, and prints their tables."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from tests.benchmarks import base64_memory, import_time, landing_memory, ledger_cost

BENCHMARKS: dict[str, Callable[[], Table]] = {
    "import-time": import_time.measure,
    "landing-memory": landing_memory.measure,
    "ledger-cost": ledger_cost.measure,
    "base64-memory": base64_memory.measure,
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
