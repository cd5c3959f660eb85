"""Compare the time of a batch with the ideal: rows × latency / concurrency limit; emulator and S3 are other processes.

``BATCH_ROWS=1000`` is the full size, ``BATCH_BYTES=1000000,8000000`` the sizes of images, ``BATCH_POLL`` the
interval of lookups. The best schedule is what the same latencies would take, one after the other in the order in
which they were drawn, if nothing else took any time: its end is ragged, so it is more than the ideal.
"""

from __future__ import annotations

import heapq
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from tests.stack.gateway import Emulator
from tests.stack.object_store import ObjectStore

MEGABYTE = 1_000_000
ROWS = int(os.environ.get("BATCH_ROWS", "150"))
SIZES = tuple(int(size) for size in os.environ.get("BATCH_BYTES", f"{MEGABYTE}").split(","))
POLL_INTERVAL = float(os.environ.get("BATCH_POLL", "1.0"))
MAX_IN_FLIGHT = 50
LATENCY, JITTER = 10.0, 0.2
BUCKET = "benchmark"


def measure() -> Table:
    ideal = ROWS * LATENCY / MAX_IN_FLIGHT
    table = Table(
        title=f"{ROWS} images, limit {MAX_IN_FLIGHT}, latency {LATENCY:g} s ± {JITTER:.0%}, "
        f"looked up every {POLL_INTERVAL:g} s; ideal {ideal:.0f} s"
    )
    for heading in ("image", "wall, s", "of the ideal", "of the best schedule", "CPU-s an image", "memory, MiB"):
        table.add_column(heading, justify="right")
    with surroundings() as around:
        for size in SIZES:
            around.change(latency=LATENCY, jitter=JITTER, image_bytes=size)
            figures = around.run(rows=ROWS, max_in_flight=MAX_IN_FLIGHT, poll_interval=POLL_INTERVAL)
            best = best_schedule(around.latencies(), MAX_IN_FLIGHT)
            table.add_row(
                f"{size / MEGABYTE:g} MB",
                f"{figures['wall']:.1f}",
                f"{figures['wall'] / ideal:.3f}",
                f"{figures['wall'] / best:.3f}",
                f"{figures['cpu'] / ROWS:.4f}",
                f"+{figures['memory']:.0f}",
            )
    return table


def best_schedule(latencies: Iterable[float], max_in_flight: int) -> float:
    """Return when the last is done, if each begins as soon as there is a place."""
    ends: list[float] = []
    for latency in latencies:
        start = heapq.heappop(ends) if len(ends) == max_in_flight else 0.0
        heapq.heappush(ends, start + latency)
    return max(ends)


@dataclass(frozen=True)
class Surroundings:
    """The servers of a batch: a gateway and an S3 server, each in its own process."""

    host: str
    token: str
    store: ObjectStore

    def change(self, **settings: Any) -> None:
        """Forget all tasks and set the emulator's settings."""
        self._post("reset")
        self._post("settings", settings)

    def run(self, *, rows: int, max_in_flight: int, poll_interval: float) -> dict[str, float]:
        """Run one batch to its end and return its figures."""
        setup = {
            "rows": rows,
            "max_in_flight": max_in_flight,
            "poll_interval": poll_interval,
            "gateway": self.host,
            "token": self.token,
            "bucket": BUCKET,
            "s3": {
                "endpoint_url": self.store.endpoint,
                "region_name": self.store.connection_extra["region_name"],
                "aws_access_key_id": self.store.access_key,
                "aws_secret_access_key": self.store.secret_key,
            },
        }
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.batch_worker", json.dumps(setup)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if not figures["landed"] == figures["billed"] == rows:
            raise RuntimeError(f"not every row landed: {figures}")
        return figures

    def latencies(self) -> list[float]:
        """Return the latencies that were drawn since the last change, in order, without the warm-up's."""
        rows = httpx.get(f"{self.host}/_emulator/ledger", timeout=60, trust_env=False).json()["rows"]
        return [row["ready_at"] - row["created_at"] for row in sorted(rows, key=lambda row: row["created_at"])][3:]

    def _post(self, what: str, body: object = None) -> None:
        httpx.post(f"{self.host}/_emulator/{what}", json=body, timeout=30, trust_env=False).raise_for_status()


@contextmanager
def surroundings() -> Iterator[Surroundings]:
    with tempfile.TemporaryDirectory() as home:
        emulator = Emulator(Path(home) / "emulator.log", latency=0)
        store = ObjectStore(Path(home) / "s3", Path(home) / "seaweedfs.log", BUCKET)
        emulator.start()
        store.start()
        try:
            emulator.wait_ready()
            store.wait_ready()
            yield Surroundings(emulator.gateway.host, emulator.gateway.token, store)
        finally:
            emulator.close()
            store.process.stop()
            emulator.process.stop()
