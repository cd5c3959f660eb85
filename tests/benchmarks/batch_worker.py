"""One batch in a process of its own, measured: wall-clock, CPU, growth of memory. Reads its setup from its argument."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from airflow_provider_imagegen.engine.batch.progress import Counts
from airflow_provider_imagegen.engine.batch.run import BatchRun
from airflow_provider_imagegen.engine.options import JobOptions
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.ledger.models import Attempt
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.polling import PollSchedule
from airflow_provider_imagegen.storage.destination import Destination


def main(setup: dict[str, Any]) -> dict[str, Any]:
    s3 = boto3.client("s3", config=Config(request_checksum_calculation="when_required"), **setup["s3"])
    asyncio.run(_work(s3, setup, 3).begin())
    memory, cpu, start = _peak(), time.process_time(), time.monotonic()
    summary: Any = asyncio.run(_work(s3, setup, setup["rows"]).begin())
    return {
        "wall": time.monotonic() - start,
        "cpu": time.process_time() - cpu,
        "memory": _peak() - memory,
        "landed": summary.landed,
        "billed": summary.billed,
    }


def _work(s3: Any, setup: dict[str, Any], rows: int) -> BatchRun:
    run = uuid.uuid4().hex
    settings = GatewaySettings(
        base_url=setup["gateway"], token=setup["token"], gateway="acedatacloud", max_in_flight=setup["max_in_flight"]
    )
    return BatchRun(
        requests=[f"a kite, number {number}" for number in range(rows)],
        defaults={"model": "gpt-image-1", "size": "1024x1024"},
        report=_nobody,
        settings=settings,
        s3=s3,
        destination=Destination(bucket=setup["bucket"], prefix=f"batches/{run}"),
        ledger=Ledger(s3, setup["bucket"], f"ledgers/{run}"),
        options=JobOptions(
            attempt=Attempt(dag_id="d", task_id="t", run_id=run),
            schedule=PollSchedule(interval=setup["poll_interval"]),
            timeout=21600.0,
        ),
        deferrable=False,
    )


async def _nobody(_: Counts) -> None:
    """Ignore the progress."""


def _peak() -> float:
    """Return the largest resident size so far, MiB."""
    # Not getrusage: its peak is inherited from the process that started this one.
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
