"""Measure what a gateway with few slots costs a whole Airflow: mapped operators, a limit, and a bystander's task.

``SLOTS_TASKS`` operators (30) of ``SLOTS_SECONDS`` seconds an image (30) run with a token that allows ``SLOTS_LIMIT``
requests at once (4), on ``SLOTS_WORKERS`` workers (6). Another DAG's task of one second is triggered again and again.
With ``SLOTS_DAGS=2`` the operators are of two DAGs, and with ``SLOTS_TRIGGERERS=2`` there are two triggerers, which
know nothing of each other. ``SLOTS_OF`` has something else run instead: ``pool`` the same operators in an Airflow pool
of ``SLOTS_LIMIT`` slots, deferred tasks included; ``wait`` as many of Airflow's own ``WaitSensor``, deferred for as
long and all at once, which no gateway limits; ``batch`` one batch of as many rows, on one worker and with nothing
beside it, where ``max_in_flight`` of its connection is the limit. The logs of processes and tasks are in
``.cache/slots`` until the next time.

- wall: of the run; ideal is images x seconds / limit.
- workers held: share of all worker-seconds in which a worker was not free for another task; and how much of it a task
  ran for: Airflow notices the end of a task some seconds late.
- bystander waits: from triggering its run to the start of its task; the first row is without anything beside it.
- refusals a submit: requests that the gateway refused for each one that it accepted.
- longest wait: of a task, from its start in a worker until its image is in S3.
- resumes a submit: how often a task that waited for a slot was woken until it was accepted, on average.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.table import Table

from tests.benchmarks.airflow_load import AirflowLoad
from tests.stack.environment import CACHE
from tests.stack.records import DagRun
from tests.stack.rest import AirflowClient
from tests.stack.stack import Stack, StackOptions
from tests.stack.waiting import wait_until

TASKS = int(os.environ.get("SLOTS_TASKS", "30"))
LIMIT = int(os.environ.get("SLOTS_LIMIT", "4"))
SECONDS = float(os.environ.get("SLOTS_SECONDS", "30"))
OF = os.environ.get("SLOTS_OF", "mapped")
BATCH = OF == "batch"
WORKERS = int(os.environ.get("SLOTS_WORKERS", "1" if BATCH else "6"))
TRIGGERERS = int(os.environ.get("SLOTS_TRIGGERERS", "1"))
DAG_IDS = {
    "mapped": ("slots", "slots_too")[: int(os.environ.get("SLOTS_DAGS", "1"))],
    "pool": ("slots_pool",),
    "wait": ("slots_wait",),
    "batch": ("slots_batch",),
}[OF]
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
        triggerers=TRIGGERERS,
        connection_extra={"max_in_flight": LIMIT} if BATCH else {},
        settings=SETTINGS,
    )
    with Stack(LOGS, options) as stack:
        client = stack.client
        for dag_id in (*DAG_IDS, "bystander"):
            client.wait_for_dag(dag_id)
        client.request("POST", "pools", json={"name": "slots", "slots": LIMIT, "include_deferred": True})
        load = AirflowLoad(stack.airflow, WORKERS)
        alone = [] if BATCH else [_bystander(client) for _ in range(4)][1:]
        billed = stack.ledger()["totals"]["billed_images"]
        with ExitStack() as beside:
            waits = [] if BATCH else beside.enter_context(_bystanders(client))
            workers = beside.enter_context(load.watching_workers())
            begun = time.monotonic()
            conf = {"images": TASKS // len(DAG_IDS), "seconds": SECONDS}
            run_ids = [client.trigger(dag_id, conf) for dag_id in DAG_IDS]
            limit = 600 + 20 * TASKS * SECONDS / LIMIT
            runs = [client.wait_for_run(*run, timeout=limit, interval=2) for run in zip(DAG_IDS, run_ids, strict=True)]
            wait_until(lambda: not load.held_workers(), what="the workers to be free", timeout=600)
            seconds = time.monotonic() - begun
        totals = stack.ledger()["totals"]
        durations = [duration for run in runs for duration in _durations(client, run)]
    billed = totals["billed_images"] - billed
    began = min(run.start_date for run in runs if run.start_date)
    wall = (max(run.end_date for run in runs if run.end_date) - began).total_seconds()
    ideal = TASKS * SECONDS / LIMIT
    waited, resumes = _resumes()
    return _table(
        f"{', '.join(run.state for run in runs)}, {billed} billed",
        {
            "wall": f"{wall:.0f} s ({wall / ideal:.2f} x ideal)",
            "workers held": f"{100 * workers.held / (WORKERS * seconds):.0f} %",
            "a task running": f"{100 * workers.running / (WORKERS * seconds):.0f} %",
            f"bystander waits, nothing beside it (longest of {len(alone)})": f"{max(alone, default=0):.1f} s",
            f"bystander waits (longest of {len(waits)})": f"{max(waits, default=0):.1f} s",
            "tasks that waited for a slot": str(waited),
            "resumes a submit": f"{resumes / waited:.2f}" if waited else "-",
            "refusals a submit": f"{totals['refused'] / totals['accepted']:.2f}" if totals["accepted"] else "-",
            "longest wait": f"{max(durations):.0f} s ({max(durations) / ideal:.2f} x ideal)",
            "most in flight": str(totals["peak_in_flight"]),
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


def _durations(client: AirflowClient, run: DagRun) -> list[float]:
    """Return for how many seconds the operators of a run ran, deferred or not."""
    tasks = client.task_instances(run.dag_id, run.run_id)
    return [
        (task.end_date - task.start_date).total_seconds()
        for task in tasks
        if task.task_id == "generate" and task.start_date and task.end_date
    ]


def _resumes() -> tuple[int, int]:
    """Return how many tasks waited for a slot, and how often they were woken in all."""
    counts = [log.read_text(errors="replace").count(DEFERRED) for log in (LOGS / "tasks").rglob("*.log")]
    waited = [count for count in counts if count]
    return len(waited), sum(waited)


def _table(outcome: str, figures: Mapping[str, str]) -> Table:
    what = {
        "mapped": f"{TASKS} mapped operators",
        "pool": f"{TASKS} mapped operators in a pool",
        "wait": f"{TASKS} mapped WaitSensors",
        "batch": f"a batch of {TASKS} rows",
    }[OF]
    table = Table(title=f"{what}, {SECONDS:g} s an image, {LIMIT} at once at the gateway, {WORKERS} workers: {outcome}")
    table.add_column("")
    table.add_column("figure", justify="right")
    for name, figure in figures.items():
        table.add_row(name, figure)
    return table
