"""Runs and XComs that cannot be read, among others in a real Airflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.gallery.addresses import PREFIX
from airflow_provider_imagegen.gallery.cards import UNREADABLE
from tests.gallery.scene import CLOSED, FORGED, OPEN, Scene
from tests.gallery.whole.asking import listed, restart_gallery


@contextmanager
def run_called(run_id: str) -> Iterator[None]:
    """Have a finished run of that id, the last one started."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType
    from sqlalchemy import delete

    now = datetime.now(UTC)
    moments = {"logical_date": now, "run_after": now, "start_date": now}
    with create_session() as session:
        session.add(DagRun(dag_id=CLOSED, run_id=run_id, run_type=DagRunType.MANUAL, state="success", **moments))
    try:
        yield
    finally:
        with create_session() as session:
            session.execute(delete(DagRun).where(DagRun.dag_id == CLOSED, DagRun.run_id == run_id))


def put_xcom(value: str) -> None:
    """Change what a task returned, as its worker can write it; Airflow's API refuses to write some of it."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    forged = (XComModel.dag_id == FORGED, XComModel.task_id == "forged", XComModel.key == "return_value")
    with create_session() as session:
        session.execute(update(XComModel).where(*forged).values(value=value))


class TestNeighbours:
    @pytest.fixture(autouse=True)
    def forget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        restart_gallery(monkeypatch)

    def test_of_an_odd_run_are_shown(self, scene: Scene, viewer: httpx.Client) -> None:
        with run_called("."):
            cards = listed(viewer, "images", dag_id=CLOSED)
        (odd,) = (card for card in cards if card["run_id"] == ".")
        assert (odd["code"], odd["message"]) == (
            UNREADABLE,
            "The run '.' cannot be read. No URL can contain the id '.'.",
        )
        assert "image" in {card["kind"] for card in cards if card["run_id"] == scene.run_ids[CLOSED]}

    @pytest.mark.parametrize("value", ["[" * 100_000, {"cost": "1e400"}, {"revised_prompt": "\ud800"}], ids=range(3))
    def test_of_an_odd_xcom_are_shown(self, scene: Scene, viewer: httpx.Client, value: Any) -> None:
        if isinstance(value, dict):
            manifest = scene.xcom(CLOSED, "secret")
            # As text: Airflow itself cannot answer with half of a surrogate pair.
            value = json.dumps(manifest | {"images": [image | value for image in manifest["images"]]})
        put_xcom(value)
        # The first page only: another test may have given the run a long batch, whose rows come after this task.
        newest, own = (
            viewer.get(f"{PREFIX}/{path}", params=params).raise_for_status().json()["cards"]
            for path, params in (("images", {}), (f"{scene.path(FORGED)}/images", {"limit": 1}))
        )
        assert OPEN in {card["dag_id"] for card in newest}
        assert own[0]["task_id"] == "forged"
        assert own[0]["kind"] == ("failure" if value.startswith("[") else "image")
