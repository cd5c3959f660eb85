"""Fixtures of all tests: an Airflow, the emulator, a real S3 server."""

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
from collections.abc import Generator, Iterator  # noqa: E402
from contextlib import nullcontext  # noqa: E402
from itertools import zip_longest  # noqa: E402
from typing import Any  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

from airflow_provider_imagegen.emulator.server import RunningEmulator  # noqa: E402
from airflow_provider_imagegen.gateways.settings import GatewaySettings  # noqa: E402
from tests import examples  # noqa: E402
from tests.stack.object_store import ObjectStore  # noqa: E402
from tests.stack.read_once import share_authorities, share_descriptions  # noqa: E402
from tests.stack.tracing import untraced  # noqa: E402
from tests.stack.waiting import HANG  # noqa: E402

BUCKET = "images"
STACKS = (
    ("e2e/whole",),
    ("e2e", "distributed", "chaos", "docs", "packaging"),
)
"""Tests with a whole Airflow: two at a time are enough for two cores, so those of one line run one after the other."""
SAMPLE = 8
"""Cases of a sampled test in the short run, at most."""
TOGETHER = "integration/"
"""Tests with ``dag.test()``: the first one of a process takes 9 s of CPU, and any other one less than a second."""
UNMEASURED = (
    *("e2e", "distributed", "chaos", "docs", "packaging", "peers", "crash", "fuzz"),
    *("batch/test_killed", "polling/test_slow_loops", "polling/test_task_poller"),
)
"""Tests without coverage, which others reach as well: on Python 3.11 measuring it takes a quarter of the CPU time."""
LONGEST = (TOGETHER, "crash/test_crash_matrix", "batch", "failures", "crash", "gallery", "polling")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Has each file run in one process, those with ``dag.test()`` all in the same one, and whole Airflows in two."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0].removeprefix("tests/")
        if path.startswith(TOGETHER):
            return TOGETHER
        stack = next((number for number, starts in enumerate(STACKS) if path.startswith(starts)), None)
        return path if stack is None else f"stacks {stack}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="all cases and many examples: what `make test-all` runs")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    share_descriptions()
    share_authorities()
    if config.getoption("full"):
        os.environ[examples.VARIABLE] = "1"
    # How long an example takes, or takes to be found, says more of the machine than of the code.
    hypothesis.settings.register_profile(
        "imagegen",
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        max_examples=examples.examples(200),
    )
    hypothesis.settings.load_profile("imagegen")
    # The timeout of a test is longer than the timeouts of what it waits for.
    if config.getoption("timeout") is None:
        config.option.timeout = 2 * HANG


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Measure coverage of what is done at imports in the first process only, for it is the same in all."""
    is_first = getattr(session.config, "workerinput", {"workerid": "gw0"})["workerid"] == "gw0"
    with nullcontext() if is_first else untraced():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    is_measured = not item.path.relative_to(Path(__file__).parent).as_posix().startswith(UNMEASURED)
    with nullcontext() if is_measured else untraced():
        return (yield)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for the long run, and begin with what takes longest; among equals chance decides."""
    if not examples.is_full():
        left_out = {item for item in items if item.get_closest_marker("full")} | _cases_left_out(items)
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    here = Path(__file__).parent
    order = [*(start for starts in zip_longest(*STACKS, fillvalue="-") for start in starts), *LONGEST]

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix()
        return next((place for place, starts in enumerate(order) if path.startswith(starts)), len(order))

    items.sort(key=place)


def _cases_left_out(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return of every sampled test the cases between those that the short run takes: the same ones every time."""
    tables: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            tables.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out: set[pytest.Item] = set()
    for cases in tables.values():
        ordered = sorted(cases, key=lambda case: case.nodeid)
        left_out |= set(ordered) - set(ordered[:: -(-len(ordered) // SAMPLE)])
    return left_out


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
