"""Airflow in this process, on sqlite: enough for ``dag.test()``."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_imagegen.emulator.server import RunningEmulator
from tests.conftest import AIRFLOW_HOME, BUCKET
from tests.stack.object_store import ObjectStore
from tests.stack.tracing import traced, untraced
from tests.stack.waiting import wait_until

BUNDLE = "dags-folder"
SMALL = 1000
"""Bytes of an image: to draw one in a usual size takes a third of a second."""


@pytest.fixture(scope="session")
@untraced()
def airflow_database() -> None:
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    (AIRFLOW_HOME / "dags").mkdir(exist_ok=True)
    initdb()
    with create_session() as session:
        session.merge(DagBundleModel(name=BUNDLE))


@pytest.fixture
def connections(emulator: RunningEmulator, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default connections, to the emulator and to the S3 server."""
    set_connection(
        monkeypatch,
        "imagegen_default",
        conn_type="imagegen",
        host=emulator.base_url,
        password=emulator.token,
        extra={"gateway": "acedatacloud"},
    )
    set_connection(
        monkeypatch,
        "aws_default",
        conn_type="aws",
        login=object_store.access_key,
        password=object_store.secret_key,
        extra=object_store.connection_extra,
    )


def set_connection(monkeypatch: pytest.MonkeyPatch, conn_id: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


@dataclass(frozen=True)
class Outcome:
    """The outcome of the only task of a test's DAG.

    :param dag_id: of the DAG
    :param state: of the task
    :param manifest: what it returned
    :param records: its log records
    :param log: its log, as text, with all other output
    """

    dag_id: str
    state: str
    manifest: Any
    records: list[logging.LogRecord]
    log: str


@pytest.fixture
def small_images(emulator: RunningEmulator) -> None:
    emulator.change(image_bytes=SMALL)


@pytest.fixture
def run_task(
    *,
    airflow_database: None,
    connections: None,
    emulator: RunningEmulator,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> Callable[..., Outcome]:
    """Run one operator in a DAG of its own through ``dag.test()``."""
    from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

    emulator.change(image_bytes=SMALL)

    def run(operator: type = GenerateImageOperator, **arguments: Any) -> Outcome:
        arguments = {"prompt": "a red kite", "model": "gpt-image-1", "s3_bucket": BUCKET} | arguments
        with DAG(f"{request.node.originalname}-{uuid.uuid4()}", schedule=None) as dag:
            operator(task_id="generate", **arguments)
        make_known(dag)
        capfd.readouterr()
        caplog.clear()
        run = run_through(dag)
        out, err = capfd.readouterr()
        (instance,) = run.get_task_instances()
        return Outcome(dag.dag_id, instance.state, returned(dag.dag_id), caplog.records, out + err + caplog.text)

    return run


@dataclass(frozen=True)
class Run:
    """The outcome of a DAG's tasks.

    :param dag_id: of the DAG
    :param run_id: of its run
    :param states: by task id, those of a mapped task in order of its map index
    :param log: everything that was logged and printed
    """

    dag_id: str
    run_id: str
    states: dict[str, list[str]]
    log: str

    def returned(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        return returned(self.dag_id, task_id, key, map_index)


@pytest.fixture
def run_dag(
    airflow_database: None,
    connections: None,
    emulator: RunningEmulator,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Callable[[DAG], Run]:
    """Run a whole DAG through ``dag.test()``."""
    emulator.change(image_bytes=SMALL)

    def run(dag: DAG) -> Run:
        make_known(dag)
        capfd.readouterr()
        caplog.clear()
        finished = run_through(dag)
        out, err = capfd.readouterr()
        states: dict[str, list[str]] = {}
        for instance in sorted(finished.get_task_instances(), key=lambda instance: instance.map_index):
            states.setdefault(instance.task_id, []).append(instance.state)
        return Run(dag.dag_id, finished.run_id, states, out + err + caplog.text)

    return run


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defer at once and come back at once, where real life waits for Airflow's sake."""
    for module in ("run", "batch.run", "land_run"):
        monkeypatch.setattr(f"airflow_provider_imagegen.engine.{module}.GRACE", 0.2)
    monkeypatch.setenv("AIRFLOW__IMAGEGEN__MINIMUM_DEFERRAL", "0")


@pytest.fixture
def held_until_deferred(
    emulator: RunningEmulator, short_waits: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Hold tasks at the emulator until a trigger waits for them; keywords are those of :meth:`RunningEmulator.hold`."""
    from airflow_provider_imagegen.triggers.imagegen import ImageTasksTrigger

    run = ImageTasksTrigger.run

    async def release_and_run(self: ImageTasksTrigger) -> Any:
        emulator.release()
        async for event in run(self):
            yield event

    def hold(**options: Any) -> None:
        emulator.hold(**options)
        monkeypatch.setattr(ImageTasksTrigger, "run", release_and_run)

    return hold


@contextmanager
def released_when(emulator: RunningEmulator, condition: Callable[[dict[str, int]], bool], what: str) -> Iterator[None]:
    """Hold tasks at the emulator until a condition on its totals is true."""
    emulator.hold()
    ended = threading.Event()

    def release() -> bool:
        wait_until(lambda: ended.is_set() or condition(emulator.totals()), what=what)
        is_in_time = not ended.is_set()
        emulator.release()
        return is_in_time

    with ThreadPoolExecutor(1) as threads:
        released = threads.submit(release)
        try:
            yield
        finally:
            ended.set()
        assert released.result(), f"the test ended before {what}"


@untraced()
def run_through(dag: DAG) -> Any:
    """Run a DAG to its end, and measure coverage in what its tasks, links and triggers do; return its run."""
    from airflow.sdk.definitions import dag as dags
    from airflow.sdk.execution_time import task_runner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_runner, "_execute_task", traced(task_runner._execute_task))
        patch.setattr(task_runner, "finalize", traced(task_runner.finalize))
        patch.setattr(dags, "_run_inline_trigger", traced(dags._run_inline_trigger))
        return dag.test()


@untraced()
def make_known(dag: DAG) -> None:
    """Tell Airflow's database of a DAG."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG, SerializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        SerializedDAG.bulk_write_to_db(BUNDLE, None, [dag], session=session)
        SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name=BUNDLE, session=session)


def returned(dag_id: str, task_id: str | None = None, key: str = "return_value", map_index: int = -1) -> Any:
    """Return what a task of a DAG pushed."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(XComModel).where(XComModel.dag_id == dag_id, XComModel.key == key)
        if task_id is not None:
            query = query.where(XComModel.task_id == task_id, XComModel.map_index == map_index)
        entry = session.scalars(query).first()
        return None if entry is None else XComModel.deserialize_value(entry)
