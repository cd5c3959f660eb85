"""One Airflow with the CeleryExecutor: two schedulers, two triggerers and two workers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.environment import CACHE
from tests.stack.stack import Stack, StackOptions

DAGS = Path(__file__).parent / "dags"
LOGS = CACHE / "distributed-test"
SETTINGS = {
    # How often schedulers look for tasks without a heartbeat; the default is every 10 seconds.
    "scheduler.task_instance_heartbeat_timeout_detection_interval": "1",
}


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    options = StackOptions(
        dag_folders=(DAGS,),
        latency=1.0,
        parallelism=12,
        triggerers=2,
        schedulers=2,
        celery_workers=2,
        celery_concurrency=3,
        settings=SETTINGS,
        frugal=True,
    )
    shutil.rmtree(LOGS, ignore_errors=True)
    with Stack(LOGS, options) as running:
        yield running
