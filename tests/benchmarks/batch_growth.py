"""Measure time, CPU and memory per row in batches of ten to ten thousand rows, without latency.

``BATCH_GROWTH=10,100,1000,10000`` is the full size. ``BATCH_GROWTH_PLOT=docs/images/batch-growth.png`` draws the
table into that file too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from tests.benchmarks.batch_throughput import surroundings

SIZES = tuple(int(size) for size in os.environ.get("BATCH_GROWTH", "10,100,1000").split(","))
PLOT = os.environ.get("BATCH_GROWTH_PLOT")
MAX_IN_FLIGHT = 50
IMAGE_BYTES = 1000


@dataclass(frozen=True)
class Growth:
    """The figures of one batch; memory is the growth of the process at its peak.

    :param wall: seconds
    :param cpu: seconds
    :param memory: MiB
    """

    rows: int
    wall: float
    cpu: float
    memory: float

    @property
    def wall_of_a_row(self) -> float:
        """Milliseconds."""
        return 1000 * self.wall / self.rows

    @property
    def cpu_of_a_row(self) -> float:
        """Milliseconds."""
        return 1000 * self.cpu / self.rows


def measure() -> Table:
    table = Table(title=f"Batches of growing size, latency 0, limit {MAX_IN_FLIGHT}, images of {IMAGE_BYTES} bytes")
    for heading in ("rows", "wall, s", "wall, ms a row", "CPU, ms a row", "memory, MiB", "memory, KiB a row"):
        table.add_column(heading, justify="right")
    measured = _measure_all()
    for each in measured:
        table.add_row(
            f"{each.rows}",
            f"{each.wall:.2f}",
            f"{each.wall_of_a_row:.1f}",
            f"{each.cpu_of_a_row:.1f}",
            f"+{each.memory:.1f}",
            f"{1024 * each.memory / each.rows:.1f}",
        )
    if PLOT:
        from tests.benchmarks.growth_plot import draw

        draw(measured, Path(PLOT))
    return table


def _measure_all() -> list[Growth]:
    measured = []
    with surroundings() as around:
        for rows in SIZES:
            around.change(latency=0, image_bytes=IMAGE_BYTES)
            figures = around.run(rows=rows, max_in_flight=MAX_IN_FLIGHT, poll_interval=0.5)
            measured.append(Growth(rows, figures["wall"], figures["cpu"], figures["memory"]))
    return measured
