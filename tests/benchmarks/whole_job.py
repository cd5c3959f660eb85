"""Measure an end-to-end job in Airflow: N images from their prompts into S3, in three variants, one after the other.

``batch`` is one :class:`GenerateImageBatchOperator` with everything in flight at once, ``mapped`` a
:class:`GenerateImageOperator` for each prompt, ``openai`` a mapped ``@task`` with the vendor's client and
``S3Hook.load_bytes``, as it is usually written (``dags/whole_job.py``). Each begins with a small task that lists the
prompts. A run of two images each comes first, so that nothing is measured that happens once in an Airflow's life.

``WHOLE_JOB_IMAGES`` is how many images: 200 is the full size, which takes an hour and a half, 20 the default, which
takes some ten minutes. ``WHOLE_JOB_VARIANTS=batch,mapped`` omits a variant. The figures of each variant go to stderr
as soon as they are known. The processes' and tasks' logs are in ``.cache/whole-job`` until the next time.

- wall: from triggering the run to the end that Airflow notes for it.
- tasks ran: for how long tasks had a living process, all stretches of a deferrable one, by looking at the workers'
  processes 20 times a second.
- workers held: for how long workers were not free for another task, seen likewise. It is more, see
  :mod:`tests.benchmarks.airflow_load`.
- CPU: of scheduler, workers and tasks, triggerer, API server and DAG processor, with children that have ended; not of
  PostgreSQL, S3 and gateway. What an Airflow takes that does nothing is measured before, for two minutes.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from tests.benchmarks.airflow_load import AirflowLoad
from tests.stack.environment import CACHE
from tests.stack.rest import Connection, DagRun
from tests.stack.stack import Stack, StackOptions
from tests.stack.waiting import wait_until

IMAGES = int(os.environ.get("WHOLE_JOB_IMAGES", "20"))
CHOSEN = os.environ.get("WHOLE_JOB_VARIANTS", "batch,mapped,openai").split(",")
VARIANTS = {
    "batch": "one batch operator",
    "mapped": "an operator each",
    "openai": "a @task each",
}
DAGS = Path(__file__).parent / "dags"
LOGS = CACHE / "whole-job"
PARALLELISM = 2
LATENCY = 20.0
IMAGE_BYTES = 1_000_000
IDLE_SECONDS = 120.0
LOOK_EVERY = 5.0
"""Seconds between looks at a run, which cost the API server CPU; it is looked at as often while it is idle."""
# Airflow's own limits, none of which may be what is measured.
SETTINGS = {
    "core.max_active_tasks_per_dag": str(max(16, IMAGES)),
    "core.max_map_length": str(max(1024, IMAGES)),
    "triggerer.capacity": str(max(1000, IMAGES)),
}


@dataclass(frozen=True)
class Figures:
    """
    The figures of one variant, in seconds.

    :param wall: from beginning to end
    :param running: for which tasks had a process, added up
    :param held: for which workers were not free, added up
    :param cpu: beyond what an idle Airflow takes
    :param landed: images
    :param billed: images
    """

    variant: str
    wall: float
    running: float
    held: float
    cpu: float
    landed: int
    billed: int

    def costs(self, idle: float) -> dict[str, float]:
        """Return what is to be compared, by its heading.

        :param idle: CPU seconds in a second of an idle Airflow
        """
        return {
            "wall, s": self.wall,
            "tasks ran, s": self.running,
            "workers held, s": self.held,
            "CPU, s": self.cpu + idle * self.wall,
            "CPU beyond idle, s": self.cpu,
        }


def measure() -> Table:
    if unknown := set(CHOSEN) - set(VARIANTS):
        raise ValueError(f"WHOLE_JOB_VARIANTS: unknown {', '.join(sorted(unknown))} (expected {', '.join(VARIANTS)})")
    variants = [variant for variant in VARIANTS if variant in CHOSEN]
    shutil.rmtree(LOGS, ignore_errors=True)
    options = StackOptions(
        dag_folders=(DAGS,),
        latency=LATENCY,
        emulator_options=("--image-bytes", str(IMAGE_BYTES)),
        parallelism=PARALLELISM,
        settings=SETTINGS,
    )
    with Stack(LOGS, options) as stack:
        job = WholeJob(stack)
        job.warm_up(variants)
        idle = job.watch_idling(variants[0])
        figures = [job.do(variant, idle) for variant in variants]
    return _table(figures, idle)


class WholeJob:
    """Does the job in a stack, and measures it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._client = stack.client
        self._load = AirflowLoad(stack.airflow, PARALLELISM)
        gateway = stack.gateway
        address = f"{gateway.host}/openai-api/v1"
        self._client.create_connection(Connection("openai_default", "openai", host=address, password=gateway.token))

    def warm_up(self, variants: Sequence[str]) -> None:
        """Do it all in small."""
        for variant in variants:
            self._client.wait_for_dag(_dag_id(variant))
        runs = {
            variant: self._client.trigger(_dag_id(variant), {"images": 2}, run_id="warm-up") for variant in variants
        }
        for variant, run_id in runs.items():
            self._wait(variant, run_id, images=2 * len(variants))
        self._wait_for_workers()

    def watch_idling(self, variant: str) -> float:
        """Return the CPU seconds in a second of an Airflow that does nothing but answer somebody who looks at a run."""
        cpu, begun = self._load.cpu_seconds(), time.monotonic()
        while time.monotonic() < begun + IDLE_SECONDS:
            self._client.run(_dag_id(variant), "warm-up")
            time.sleep(LOOK_EVERY)
        return (self._load.cpu_seconds() - cpu) / (time.monotonic() - begun)

    def do(self, variant: str, idle: float) -> Figures:
        """Run one variant and check that every image landed and was billed once.

        :param idle: CPU seconds in a second that are not the job's
        """
        billed, cpu, begun = self._billed(), self._load.cpu_seconds(), time.time()
        with self._load.watching_workers() as workers:
            run_id = self._client.trigger(_dag_id(variant), {"images": IMAGES}, run_id=f"{IMAGES}-images")
            run = self._wait(variant, run_id, images=IMAGES)
            self._wait_for_workers()
        cpu = self._load.cpu_seconds() - cpu - idle * (time.time() - begun)
        assert run.end_date is not None
        figures = Figures(
            variant=variant,
            wall=run.end_date.timestamp() - begun,
            running=workers.running,
            held=workers.held,
            cpu=cpu,
            landed=self._landed(run),
            billed=self._billed() - billed,
        )
        print(f"whole-job: {figures}", file=sys.stderr, flush=True)
        # The vendor's client retries slow requests; images that it pays for twice are shown in the table.
        if figures.landed != IMAGES or (variant != "openai" and figures.billed != IMAGES):
            raise RuntimeError(f"not every one of {IMAGES} images landed and was billed once: {figures}")
        return figures

    def _wait(self, variant: str, run_id: str, *, images: int) -> DagRun:
        """Wait for a run to succeed, twice as long as it takes if every image holds a worker."""
        timeout = 180 + 2 * images * (LATENCY + 5) / PARALLELISM
        run = self._client.wait_for_run(_dag_id(variant), run_id, timeout=timeout, interval=LOOK_EVERY)
        if run.state != "success":
            raise RuntimeError(f"run {run_id} of {run.dag_id} ended as {run.state}; its logs are in {LOGS}")
        return run

    def _wait_for_workers(self) -> None:
        wait_until(lambda: not self._load.held_workers(), what="the workers to be free", timeout=60)

    def _billed(self) -> int:
        totals: Mapping[str, int] = self._stack.ledger()["totals"]
        return totals["billed_images"]

    def _landed(self, run: DagRun) -> int:
        """Count the images of a run that are in the bucket in their full size."""
        store = self._stack.objectstore
        pages = store.client().get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=store.bucket, Prefix=f"imagegen/{run.dag_id}/{run.run_id}/")
        sizes = [item["Size"] for page in found for item in page.get("Contents", ()) if item["Key"].endswith(".png")]
        return sizes.count(IMAGE_BYTES)


def _dag_id(variant: str) -> str:
    return f"whole_job_{variant}"


def _table(figures: Sequence[Figures], idle: float) -> Table:
    table = Table(
        title=f"{IMAGES} images of 1 MB from prompts into S3, latency {LATENCY:g} s, {PARALLELISM} workers;\n"
        f"in brackets: times the batch's; an idle Airflow: {idle:.3f} CPU-s a second"
    )
    table.add_column("")
    for each in figures:
        table.add_column(VARIANTS[each.variant], justify="right")
    costs = [each.costs(idle) for each in figures]
    base = next((each.costs(idle) for each in figures if each.variant == "batch"), None)
    for heading in costs[0]:
        table.add_row(heading, *(_cell(cost[heading], base[heading] if base else None) for cost in costs))
    table.add_row("landed", *(str(each.landed) for each in figures))
    table.add_row("billed", *(str(each.billed) for each in figures))
    return table


def _cell(value: float, base: float | None) -> str:
    return f"{value:.1f}" if base is None else f"{value:.1f} ({value / base:.2f})"
