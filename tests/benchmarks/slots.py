"""Measure what a gateway with few slots costs a whole Airflow: mapped operators, a limit, and a bystander's task.

``SLOTS_TASKS`` operators (30) of ``SLOTS_SECONDS`` seconds an image (30) run with a token that allows ``SLOTS_LIMIT``
requests at once (4), on ``SLOTS_WORKERS`` workers (6). Another DAG's task of one second is triggered again and again.
With ``SLOTS_BATCH=1`` it is one batch of as many rows instead, ``max_in_flight`` of the connection at the limit, on one
worker, and with nothing beside it. The logs of processes and tasks are in ``.cache/slots`` until the next time.

- wall: of the run; ideal is images x seconds / limit.
- workers held: share of all worker-seconds in which a worker was not free for another task.
- bystander waits: from triggering its run to the start of its task; the first row is without anything beside it.
- resumes a submit: how often a task that waited for a slot was woken until it was accepted, on average.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.table import Table

from tests.benchmarks.airflow_load import AirflowLoad
from tests.stack.environment import CACHE
from tests.stack.rest import AirflowClient
from tests.stack.stack import Stack, StackOptions
from tests.stack.waiting import wait_until

TASKS = int(os.environ.get("SLOTS_TASKS", "30"))
LIMIT = int(os.environ.get("SLOTS_LIMIT", "4"))
SECONDS = float(os.environ.get("SLOTS_SECONDS", "30"))
BATCH = os.environ.get("SLOTS_BATCH") == "1"
WORKERS = int(os.environ.get("SLOTS_WORKERS", "1" if BATCH else "6"))
DAG_ID = "slots_batch" if BATCH else "slots"
DAGS = Path(__file__).parent / "dags"
LOGS = CACHE / "slots"
BYSTANDER_PAUSE = 5.0
DEFERRED = "Deferred, unsubmitted"
SETTINGS = {
    "core.max_active_tasks_per_dag": str(TASKS + 1),
    "core.max_active_runs_per_dag": "64",
    "triggerer.capacity": str(TASKS + 100),
}


def measure() -> Table:
    shutil.rmtree(LOGS, ignore_errors=True)
    options = StackOptions(
        dag_folders=(DAGS,),
        latency=SECONDS,
        emulator_options=("--max-in-flight", str(LIMIT), "--image-bytes", "100000"),
        parallelism=WORKERS,
        connection_extra={"max_in_flight": LIMIT} if BATCH else {},
        settings=SETTINGS,
    )
    with Stack(LOGS, options) as stack:
        client = stack.client
        for dag_id in (DAG_ID, "bystander"):
            client.wait_for_dag(dag_id)
        load = AirflowLoad(stack.airflow, WORKERS)
        alone = [] if BATCH else [_bystander(client) for _ in range(4)][1:]
        billed = stack.ledger()["totals"]["billed_images"]
        with nullcontext([]) if BATCH else _bystanders(client) as waits, load.watching_workers() as workers:
            begun = time.monotonic()
            run_id = client.trigger(DAG_ID, {"images": TASKS})
            run = client.wait_for_run(DAG_ID, run_id, timeout=600 + 20 * TASKS * SECONDS / LIMIT, interval=2)
            assert run.start_date is not None
            assert run.end_date is not None
            wait_until(lambda: not load.held_workers(), what="the workers to be free", timeout=600)
            seconds = time.monotonic() - begun
        billed = stack.ledger()["totals"]["billed_images"] - billed
        peak = stack.ledger()["totals"]["peak_in_flight"]
    wall, ideal = (run.end_date - run.start_date).total_seconds(), TASKS * SECONDS / LIMIT
    waited, resumes = _resumes()
    return _table(
        f"{run.state}, {billed} billed",
        {
            "wall": f"{wall:.0f} s ({wall / ideal:.2f} x ideal)",
            "workers held": f"{100 * workers.held / (WORKERS * seconds):.0f} %",
            f"bystander waits, nothing beside it (longest of {len(alone)})": f"{max(alone, default=0):.1f} s",
            f"bystander waits (longest of {len(waits)})": f"{max(waits, default=0):.1f} s",
            "tasks that waited for a slot": str(waited),
            "resumes a submit": f"{resumes / waited:.2f}" if waited else "-",
            "most in flight": str(peak),
        },
    )


@contextmanager
def _bystanders(client: AirflowClient) -> Iterator[list[float]]:
    """Run the other DAG again and again beside the block, and note how long its task waited."""
    waits: list[float] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(BYSTANDER_PAUSE):
            waits.append(_bystander(client))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(go_on)
        try:
            yield waits
        finally:
            over.set()
        running.result()


def _bystander(client: AirflowClient) -> float:
    begun = time.time()
    run_id = client.trigger("bystander")
    client.wait_for_run("bystander", run_id, timeout=3600, interval=0.5)
    started = client.task_instance("bystander", run_id, "work").start_date
    assert started is not None
    return started.timestamp() - begun


def _resumes() -> tuple[int, int]:
    """Return how many tasks waited for a slot, and how often they were woken in all."""
    counts = [log.read_text(errors="replace").count(DEFERRED) for log in (LOGS / "tasks").rglob("*.log")]
    waited = [count for count in counts if count]
    return len(waited), sum(waited)


def _table(outcome: str, figures: Mapping[str, str]) -> Table:
    what = f"a batch of {TASKS} rows" if BATCH else f"{TASKS} mapped operators"
    table = Table(title=f"{what}, {SECONDS:g} s an image, {LIMIT} at once at the gateway, {WORKERS} workers: {outcome}")
    table.add_column("")
    table.add_column("figure", justify="right")
    for name, figure in figures.items():
        table.add_row(name, figure)
    return table
