"""What all tests share: an Airflow of their own, the emulator, a real S3 server."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Airflow reads its configuration when it is first imported.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="imagegen-tests-"))
os.environ.update(
    AIRFLOW_HOME=str(AIRFLOW_HOME),
    AIRFLOW__CORE__DAGS_FOLDER=str(AIRFLOW_HOME / "dags"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{AIRFLOW_HOME}/airflow.db",
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(AIRFLOW_HOME / "logs"),
)

import shutil  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402

from airflow_provider_imagegen.connection import GatewaySettings  # noqa: E402
from airflow_provider_imagegen.emulator.server import RunningEmulator  # noqa: E402
from tests.stack.objectstore import ObjectStore  # noqa: E402

BUCKET = "pictures"
LONGEST = (
    "crash/test_crash_matrix",
    "e2e/test_whole_stack",
    "chaos",
    "e2e/test_two_triggerers",
    "e2e/test_examples",
    "gallery/test_in_airflow",
    "e2e",
    "docs",
    "packaging",
    "crash",
    "gallery",
    "failures",
    "integration",
)
"""Paths of tests that take long."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left with it at the end; among equals chance decides."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix()
        return next((place for place, start in enumerate(LONGEST) if path.startswith(start)), len(LONGEST))

    items.sort(key=rank)


def pytest_unconfigure() -> None:
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def running_emulator() -> Iterator[RunningEmulator]:
    with RunningEmulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(running_emulator: RunningEmulator) -> RunningEmulator:
    """The emulator with an empty ledger, answering at once."""
    running_emulator.reset()
    return running_emulator


@pytest.fixture
def settings(emulator: RunningEmulator) -> GatewaySettings:
    """A connection to the emulator."""
    return GatewaySettings(base_url=emulator.base_url, token=emulator.token, gateway="acedatacloud")


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """SeaweedFS with one bucket."""
    home = tmp_path_factory.mktemp("s3")
    store = ObjectStore(home / "data", home / "seaweedfs.log", BUCKET)
    store.start()
    try:
        store.wait_ready()
        yield store
    finally:
        store.process.stop()
