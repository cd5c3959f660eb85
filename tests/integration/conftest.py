"""Airflow in this process, on sqlite: enough for ``dag.test()``."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_imagegen.emulator.server import RunningEmulator
from tests.conftest import AIRFLOW_HOME, BUCKET
from tests.stack.objectstore import ObjectStore

BUNDLE = "dags-folder"


@pytest.fixture(scope="session")
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
    """What became of the one task of a test's DAG.

    :param dag_id: of the DAG
    :param state: of the task
    :param manifest: what it returned
    :param records: its log records
    :param log: its log, as text, with whatever else was printed
    """

    dag_id: str
    state: str
    manifest: Any
    records: list[logging.LogRecord]
    log: str


@pytest.fixture
def run_task(
    airflow_database: None,
    connections: None,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> Callable[..., Outcome]:
    """Run one operator in a DAG of its own through ``dag.test()``."""
    from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

    def run(operator: type = GenerateImageOperator, **arguments: Any) -> Outcome:
        arguments = {"prompt": "a red kite", "model": "gpt-image-1", "s3_bucket": BUCKET} | arguments
        with DAG(f"{request.node.originalname}-{uuid.uuid4()}", schedule=None) as dag:
            operator(task_id="generate", **arguments)
        make_known(dag)
        capfd.readouterr()
        caplog.clear()
        run = dag.test()
        out, err = capfd.readouterr()
        (instance,) = run.get_task_instances()
        return Outcome(dag.dag_id, instance.state, returned(dag.dag_id), caplog.records, out + err + caplog.text)

    return run


def make_known(dag: DAG) -> None:
    """Tell Airflow's database of a DAG."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG, SerializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        SerializedDAG.bulk_write_to_db(BUNDLE, None, [dag], session=session)
        SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name=BUNDLE, session=session)


def returned(dag_id: str, task_id: str | None = None, key: str = "return_value") -> Any:
    """Return what a task of a DAG pushed."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(XComModel).where(XComModel.dag_id == dag_id, XComModel.key == key)
        if task_id is not None:
            query = query.where(XComModel.task_id == task_id)
        entry = session.scalars(query).first()
        return None if entry is None else XComModel.deserialize_value(entry)
