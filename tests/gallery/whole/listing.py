"""Listings of a run, of the newest runs, and of a long batch."""

from __future__ import annotations

import httpx
import pytest

from airflow_provider_imagegen.gallery.addresses import PREFIX, image_path
from tests.gallery.scene import CLOSED, DAG_IDS, FORGED, LONG, OPEN, Scene
from tests.gallery.whole.asking import address, listed, restart_gallery, short


class TestRun:
    def test_shows_everything_that_its_tasks_left(self, scene: Scene, viewer: httpx.Client) -> None:
        cards = {short(card): card for card in listed(viewer, f"{scene.path(OPEN)}/images")}
        assert set(cards) == {
            ("image", "pair", None, 0),
            ("image", "pair", None, 1),
            ("image", "mapped[0]", None, 0),
            ("image", "mapped[1]", None, 0),
            ("image", "batch", 0, 0),
            ("failure", "batch", 1, 0),
            ("image", "batch", 2, 0),
            ("image", "batch", 2, 1),
            ("failure", "fails", None, 0),
            ("image", "half", 0, 0),
            ("failure", "half", 1, 0),
            ("failure", "silent", None, None),
            ("failure", "tells", None, 0),
        }
        drawn = cards["image", "pair", None, 1]
        image = scene.xcom(OPEN, "pair")["images"][1]
        assert drawn["prompt"] == 'Two <b>boats</b> & a "buoy"'
        assert drawn["uri"] == image["uri"]
        assert (drawn["gateway_task_id"], drawn["trace_id"]) == (image["task_id"], image["trace_id"])
        assert drawn["parameters"]["size"] == "1024x1024"
        refused = cards["failure", "batch", 1, 0]
        assert (refused["code"], refused["billed"], refused["name"]) == ("moderation_blocked", "no", "refused")
        failed = cards["failure", "fails", None, 0]
        assert (failed["code"], failed["billed"]) == ("moderation_blocked", "no")
        assert (failed["prompt"], failed["model"]) == ("A task that is refused [[moderation]]", "gpt-image-1")
        assert failed["advice"].startswith("Reword the prompt")
        silent = cards["failure", "silent", None, None]
        assert (silent["code"], silent["billed"]) == ("task_failed", "unknown")
        assert silent["prompt"] == "A task that somebody stops"
        reported = cards["failure", "tells", None, 0]
        assert (reported["code"], reported["billed"]) == ("expired", "yes")

    def test_comes_page_by_page(self, scene: Scene, viewer: httpx.Client) -> None:
        path = f"{scene.path(OPEN)}/images"
        first = viewer.get(f"{PREFIX}/{path}", params={"limit": 1}).json()
        assert 1 <= len(first["cards"]) < 10
        assert first["after"]
        assert listed(viewer, path, limit=1) == listed(viewer, path)

    @pytest.mark.parametrize(
        ("wish", "found"),
        [
            ({"status": "failed"}, {"batch", "fails", "half", "silent", "tells"}),
            ({"status": "failed-billed"}, {"silent", "tells"}),
            ({"text": "bridge wooden"}, {"mapped"}),
            ({"model": "nano", "status": "landed"}, {"batch"}),
            ({"text": "no such thing"}, set()),
        ],
    )
    def test_is_filtered(self, scene: Scene, viewer: httpx.Client, wish: dict[str, str], found: set[str]) -> None:
        cards = listed(viewer, f"{scene.path(OPEN)}/images", **wish)
        assert {card["task_id"] for card in cards} == found

    @pytest.mark.parametrize("params", [{"after": "1.2"}, {"after": "x"}, {"limit": 0}, {"status": "?"}])
    def test_takes_no_nonsense(self, scene: Scene, viewer: httpx.Client, params: dict[str, str]) -> None:
        assert viewer.get(f"{PREFIX}/{scene.path(OPEN)}/images", params=params).status_code == 422

    def test_may_not_exist(self, viewer: httpx.Client) -> None:
        assert viewer.get(f"{PREFIX}/dags/{OPEN}/runs/no-such-run/images").status_code == 404


class TestNewest:
    def test_begins_with_the_last_run(self, viewer: httpx.Client) -> None:
        page = viewer.get(f"{PREFIX}/images", params={"limit": 3}).json()
        assert {card["dag_id"] for card in page["cards"]} == {DAG_IDS[0]}
        assert page["after"]

    def test_continues_to_older_ones(self, viewer: httpx.Client) -> None:
        (card,) = listed(viewer, "images", text="door", limit=1)
        assert card["dag_id"] == CLOSED

    def test_is_filtered_by_dag(self, viewer: httpx.Client) -> None:
        assert {card["dag_id"] for card in listed(viewer, "images", dag_id=CLOSED)} == {CLOSED}


class TestFailedBatch:
    @pytest.fixture(autouse=True)
    def forget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        restart_gallery(monkeypatch)

    def test_shows_all_rows_page_by_page(self, scene: Scene, viewer: httpx.Client) -> None:
        """The batch says where its rows are before it fails."""
        count = 250
        lines = ({"row": row, "key": f"broken-{row}", "status": "failed", "code": "bad_size"} for row in range(count))
        scene.forge("broken", scene.put_rows(scene.store.bucket, "broken", lines), "failure")
        path = f"{scene.path(FORGED)}/images"
        assert viewer.get(f"{PREFIX}/{path}", params={"text": "broken-", "limit": 10}).json()["after"]
        cards = listed(viewer, path, text="broken-", limit=10)
        assert [card["row"] for card in cards] == list(range(count))
        assert {(card["code"], card["billed"]) for card in cards} == {("bad_size", "no")}


class TestLongBatch:
    @pytest.fixture(autouse=True)
    def forget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        restart_gallery(monkeypatch)

    def test_comes_in_small_pages(self, long_batch: Scene, viewer: httpx.Client) -> None:
        response = viewer.get(f"{PREFIX}/{long_batch.path(FORGED)}/images")
        assert len(response.json()["cards"]) <= 160
        assert len(response.content) < 300_000

    def test_is_searched_to_its_end(self, long_batch: Scene, viewer: httpx.Client) -> None:
        (card,) = listed(viewer, f"{long_batch.path(FORGED)}/images", text=f"row-{LONG - 1}")
        assert card["row"] == LONG - 1
        assert viewer.get(address(card)).status_code == 307
        path = image_path(FORGED, long_batch.run_ids[FORGED], "long", -1, 0, row=LONG - 1)
        assert viewer.get(path).status_code == 307
