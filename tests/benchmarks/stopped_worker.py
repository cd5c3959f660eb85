"""Measure what ends with a worker: a batch of ``STOP_ROWS`` (30) at a synchronous gateway, stopped and killed.

An image takes ``STOP_SECONDS`` (20), ``STOP_LIMIT`` (10) are made at once, and when as many have landed the worker is

- stopped: SIGTERM, and SIGKILL after ``STOP_GRACE`` seconds (60), as a deploy does, or
- killed: SIGKILL at once, as for want of memory.

Airflow then retries the task. Lost are images that were billed and are not in S3 in the end.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping

from rich.table import Table

from airflow_provider_imagegen.schemas import FAILURE
from tests.benchmarks.slots import DAGS
from tests.stack.environment import CACHE
from tests.stack.rest import Connection
from tests.stack.stack import Stack, StackOptions
from tests.stack.waiting import wait_until
from tests.stack.workers import RunningTask, running_tasks

ROWS = int(os.environ.get("STOP_ROWS", "30"))
LIMIT = int(os.environ.get("STOP_LIMIT", "10"))
SECONDS = float(os.environ.get("STOP_SECONDS", "20"))
GRACE = float(os.environ.get("STOP_GRACE", "60"))
LOGS = CACHE / "stopped-worker"
DAG_ID = "stopped_worker"


def measure() -> Table:
    shutil.rmtree(LOGS, ignore_errors=True)
    options = StackOptions(dag_folders=(DAGS,), latency=SECONDS, emulator_options=("--image-bytes", "100000"))
    table = Table(title=f"a batch of {ROWS} rows, {SECONDS:g} s an image, {LIMIT} at once, its worker ended once")
    table.add_column("")
    with Stack(LOGS, options) as stack:
        host, extra = f"{stack.gateway.host}/openai-api", {"gateway": "openai", "max_in_flight": LIMIT}
        stack.client.create_connection(
            Connection("imagegen_stopped", "imagegen", host=host, password=stack.gateway.token, extra=extra)
        )
        stack.client.wait_for_dag(DAG_ID)
        columns = {"stopped": _run(stack, is_stopped=True), "killed": _run(stack, is_stopped=False)}
    for name in columns:
        table.add_column(name, justify="right")
    for figure in columns["stopped"]:
        table.add_row(figure, *(column[figure] for column in columns.values()))
    return table


def _run(stack: Stack, *, is_stopped: bool) -> Mapping[str, str]:
    before = stack.ledger()["totals"]
    run_id = stack.client.trigger(DAG_ID, {"rows": ROWS, "words": f"stopped {is_stopped}"})

    def billed() -> int:
        return int(stack.ledger()["totals"]["billed_images"] - before["billed_images"])

    wait_until(lambda: billed() >= LIMIT, what="the first images", timeout=600)
    (task,) = running_tasks(stack.airflow.scheduler.pid)
    seconds = _end(stack, task, is_stopped)
    run = stack.client.wait_for_run(DAG_ID, run_id, timeout=1800)
    task_instance = stack.client.task_instance(DAG_ID, run_id, "generate")
    key = "return_value" if run.state == "success" else FAILURE
    summary = stack.client.xcom(DAG_ID, run_id, "generate", key=key)
    return {
        "the worker ended after": f"{seconds:.0f} s",
        "run": f"{run.state}, try {task_instance.try_number}",
        "requests": str(stack.ledger()["totals"]["accepted"] - before["accepted"]),
        "billed": str(billed()),
        "landed": str(summary["landed"]),
        "outcome unknown": str(summary["unknown"]),
        "lost": str(billed() - int(summary["images"])),
    }


def _end(stack: Stack, task: RunningTask, is_stopped: bool) -> float:
    """End a worker, and return after how many seconds its task was gone."""
    begun = time.monotonic()

    def is_gone() -> bool:
        return task.id not in {other.id for other in running_tasks(stack.airflow.scheduler.pid)}

    if is_stopped:
        task.stop()
        wait_until(lambda: is_gone() or time.monotonic() - begun > GRACE, what="the worker", timeout=2 * GRACE)
    seconds = time.monotonic() - begun
    if not is_gone():
        task.kill()
        stack.declare_task_dead(task.id)
        seconds = time.monotonic() - begun
    return seconds
