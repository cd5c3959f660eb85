"""One whole Airflow for all end-to-end tests: PostgreSQL, scheduler, triggerer, API server, S3, emulator."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.environment import ROOT
from tests.stack.stack import EXAMPLES, Stack, StackOptions

DAGS = Path(__file__).parent / "dags"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    options = StackOptions(dag_folders=(EXAMPLES, DAGS), latency=2.0, python_path=(ROOT / "tests" / "third_party",))
    logs = ROOT / "stack-logs"
    shutil.rmtree(logs, ignore_errors=True)
    with Stack(logs, options) as running:
        yield running
