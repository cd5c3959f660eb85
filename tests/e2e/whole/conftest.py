"""One whole Airflow for the tests of this package: PostgreSQL, scheduler, triggerer, API server, S3, emulator."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import DAGS
from tests.gallery import scene
from tests.stack.environment import ROOT
from tests.stack.stack import EXAMPLES, Stack, StackOptions

LOGS = ROOT / "stack-logs"


@pytest.fixture(scope="package")
def lineage() -> Path:
    """The file that OpenLineage's events of DAGs that enable it go to."""
    return LOGS / "lineage.jsonl"


@pytest.fixture(scope="package")
def stack(lineage: Path) -> Iterator[Stack]:
    transport = {"type": "file", "log_file_path": str(lineage), "append": True}
    options = StackOptions(
        dag_folders=(EXAMPLES, DAGS, scene.DAGS),
        latency=1.0,
        frugal=True,
        parallelism=12,
        path="/team/airflow",
        python_path=(ROOT / "tests" / "third_party", scene.AUTH_MANAGER_FOLDER),
        settings={
            "core.auth_manager": scene.AUTH_MANAGER,
            "core.simple_auth_manager_users": scene.USERS,
            "openlineage.transport": json.dumps(transport),
            "openlineage.selective_enable": "True",
            # Assets start runs only where schedules do.
            "scheduler.use_job_schedule": "True",
        },
    )
    shutil.rmtree(LOGS, ignore_errors=True)
    with Stack(LOGS, options) as running:
        yield running
