"""The warm runner, tasks to crash, and the tables that are printed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_imagegen.emulator import painter
from airflow_provider_imagegen.emulator.server import RunningEmulator
from tests.crash.crash_runner import Runner, Task
from tests.stack.fault_proxy import FaultProxy
from tests.stack.object_store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

USUAL, CAPITALS, ODD_TEXTS = "as usual", "capitalized metadata", "odd texts"
"""Surroundings: a store that spells the names of user metadata as Go does; a gateway whose texts no UTF-8 can hold."""
ODD_FAULTS: tuple[dict[str, Any], ...] = tuple({"route": route, "kind": "odd_text"} for route in ("submit", "lookup"))
REPLACED = "half a pair \ufffd, NUL "

TABLE = pytest.StashKey[list[tuple[str, ...]]]()
HEADER = ("scenario", "killed", "left in the ledger", "billed", "landed", "the retry", "what it sent")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(TABLE, [])
    if not rows:
        return
    widths = [max(len(row[column]) for row in (HEADER, *rows)) for column in range(len(HEADER))]
    terminalreporter.section("crash matrix")
    for row in (HEADER, *sorted(rows)):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line("  ".join(cells).rstrip())


@pytest.fixture
def table(request: pytest.FixtureRequest) -> list[tuple[str, ...]]:
    """Rows to be printed when all is over."""
    return request.config.stash.setdefault(TABLE, [])


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    with Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def s3(object_store: ObjectStore) -> S3Client:
    return object_store.client()


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have images drawn coarsely: each of them takes 0.06 s instead of 0.3 s."""
    monkeypatch.setattr(painter, "LONGEST_WORKING_EDGE", 64)


@pytest.fixture
def surroundings() -> str:
    """What the store and the gateway are like; to be parametrized."""
    return USUAL


@pytest.fixture(scope="session")
def capitalizing(object_store: ObjectStore) -> Iterator[FaultProxy]:
    with FaultProxy(object_store.port) as proxy:
        proxy.capitalize_metadata()
        yield proxy


@pytest.fixture
def store(request: pytest.FixtureRequest, object_store: ObjectStore, surroundings: str) -> ObjectStore:
    """The store as tries reach it; tests look into it directly."""
    if surroundings != CAPITALS:
        return object_store
    return object_store.through(request.getfixturevalue("capitalizing"))


@pytest.fixture
def emulator(emulator: RunningEmulator, surroundings: str) -> RunningEmulator:
    for fault in ODD_FAULTS if surroundings == ODD_TEXTS else ():
        emulator.arm(**fault, times=None)
    return emulator


@pytest.fixture
def new_task(
    runner: Runner, emulator: RunningEmulator, store: ObjectStore, s3: S3Client, tmp_path: Path
) -> Callable[..., Task]:
    """Make a task; keywords are the operator's arguments, or those of :class:`Task` itself."""

    def make(**arguments: Any) -> Task:
        names = {"gateway", "dag_id", "run_id", "visibility_grace"}
        of_task = {name: arguments.pop(name) for name in names & arguments.keys()}
        return Task(
            runner=runner,
            emulator=emulator,
            store=store,
            s3=s3,
            folder=tmp_path,
            arguments=arguments,
            **of_task,
        )

    return make
