"""Whether a row costs the same in a batch of ten and of ten thousand: time, CPU and memory, without any latency.

``BATCH_GROWTH=10,100,1000,10000`` is the full size.
"""

from __future__ import annotations

import os

from rich.table import Table

from tests.benchmarks.batch_throughput import surroundings

SIZES = tuple(int(size) for size in os.environ.get("BATCH_GROWTH", "10,100,1000").split(","))
PLACES = 50
IMAGE_BYTES = 1000


def measure() -> Table:
    table = Table(title=f"Batches of growing size, latency 0, {PLACES} places, images of {IMAGE_BYTES} bytes")
    for heading in ("rows", "wall, s", "wall, ms a row", "CPU, ms a row", "memory, MiB", "memory, KiB a row"):
        table.add_column(heading, justify="right")
    with surroundings() as around:
        for rows in SIZES:
            around.change(latency=0, image_bytes=IMAGE_BYTES)
            figures = around.run(rows=rows, places=PLACES, poll_interval=0.5)
            table.add_row(
                f"{rows}",
                f"{figures['wall']:.2f}",
                f"{1000 * figures['wall'] / rows:.1f}",
                f"{1000 * figures['cpu'] / rows:.1f}",
                f"+{figures['memory']:.1f}",
                f"{1024 * figures['memory'] / rows:.1f}",
            )
    return table
