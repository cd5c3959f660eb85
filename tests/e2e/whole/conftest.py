"""One whole Airflow for the tests of this package: PostgreSQL, scheduler, triggerer, API server, S3, emulator."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import DAGS
from tests.stack.environment import ROOT
from tests.stack.stack import EXAMPLES, Stack, StackOptions

LOGS = ROOT / "stack-logs"


@pytest.fixture(scope="package")
def lineage() -> Path:
    """The file that OpenLineage's events go to."""
    return LOGS / "lineage.jsonl"


@pytest.fixture(scope="package")
def stack(lineage: Path) -> Iterator[Stack]:
    transport = {"type": "file", "log_file_path": str(lineage), "append": True}
    options = StackOptions(
        dag_folders=(EXAMPLES, DAGS),
        latency=2.0,
        python_path=(ROOT / "tests" / "third_party",),
        settings={"openlineage.transport": json.dumps(transport)},
    )
    shutil.rmtree(LOGS, ignore_errors=True)
    with Stack(LOGS, options) as running:
        yield running
