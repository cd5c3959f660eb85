"""The links of a task instance, as Airflow stores them."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import DAG

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.gateways import registered_gateways
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator
from tests.conftest import BUCKET
from tests.integration.conftest import Run, set_connection

THIRD_PARTY = Path(__file__).parents[1] / "third_party"
DRAW: dict[str, Any] = {"task_id": "draw", "model": "gpt-image-1", "s3_bucket": BUCKET}


@pytest.fixture
def paged(connections: None, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A connection to a third party's gateway that has a page for every task."""
    monkeypatch.syspath_prepend(THIRD_PARTY)
    registered_gateways.cache_clear()
    fields = {"host": emulator.base_url, "password": emulator.token, "extra": {"gateway": "paged"}}
    set_connection(monkeypatch, "imagegen_paged", conn_type="imagegen", **fields)
    yield
    registered_gateways.cache_clear()
    sys.modules.pop("paged_gateway", None)


def link(run: Run, name: str, map_index: int = -1) -> Any:
    return run.returned("draw", f"_link_{name}", map_index)


@pytest.fixture
def run_task(run_dag: Callable[[DAG], Run]) -> Callable[..., Run]:
    def run(**arguments: Any) -> Run:
        with DAG(f"links-{uuid.uuid4()}", schedule=None) as dag:
            GenerateImageOperator(prompt="a red kite", **(DRAW | arguments))
        return run_dag(dag)

    return run


class TestImages:
    def test_leads_to_the_tab_of_the_run(self, run_task: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/team/")
        run = run_task()
        page = f"/dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}/plugin/imagegen-run"
        assert link(run, "ImagesLink") == f"https://airflow.example/team{page}"

    def test_leads_there_without_a_base_url_too(self, run_task: Callable[..., Run]) -> None:
        run = run_task()
        assert link(run, "ImagesLink").startswith("/dags/")


class TestS3:
    def test_is_not_there_for_stores_that_are_not_aws(self, run_task: Callable[..., Run]) -> None:
        assert link(run_task(), "S3Link") == ""


@pytest.mark.usefixtures("paged")
class TestGatewayTask:
    def test_leads_to_the_gateways_page(self, run_task: Callable[..., Run], emulator: RunningEmulator) -> None:
        run = run_task(imagegen_conn_id="imagegen_paged")
        (row,) = emulator.ledger()["rows"]
        assert link(run, "GatewayTaskLink") == f"https://gpu.example/tasks/{row['task_id']}"

    def test_is_there_after_a_failure(self, run_task: Callable[..., Run], emulator: RunningEmulator) -> None:
        emulator.arm("submit", "fail")
        run = run_task(imagegen_conn_id="imagegen_paged")
        assert run.states == {"draw": ["failed"]}
        assert link(run, "GatewayTaskLink").startswith("https://gpu.example/tasks/")

    def test_is_there_after_a_deferral(
        self, run_task: Callable[..., Run], held_until_deferred: Callable[..., None]
    ) -> None:
        held_until_deferred()
        run = run_task(imagegen_conn_id="imagegen_paged", poll_interval=0.2)
        assert "Deferred" in run.log
        assert link(run, "GatewayTaskLink").startswith("https://gpu.example/tasks/")

    def test_is_there_for_mapped_tasks(self, run_dag: Callable[[DAG], Run]) -> None:
        with DAG(f"links-{uuid.uuid4()}", schedule=None) as dag:
            partial = GenerateImageOperator.partial(imagegen_conn_id="imagegen_paged", **DRAW)
            partial.expand(prompt=["a kite", "an owl"])
        run = run_dag(dag)
        assert len({link(run, "GatewayTaskLink", number) for number in (0, 1)}) == 2

    def test_is_not_there_where_the_gateway_has_no_pages(self, run_task: Callable[..., Run]) -> None:
        assert link(run_task(), "GatewayTaskLink") == ""

    def test_is_not_there_before_anything_was_submitted(self, run_task: Callable[..., Run]) -> None:
        run = run_task(imagegen_conn_id="imagegen_paged", n=0)
        assert [link(run, name) for name in ("GatewayTaskLink", "S3Link")] == ["", ""]
        assert "Failed to push an xcom" not in run.log
