"""Permissions of the gallery."""

from __future__ import annotations

import httpx
import pytest
from fastapi.routing import APIRoute

from airflow_provider_imagegen.gallery import pages, routes
from airflow_provider_imagegen.gallery.addresses import PREFIX
from tests.gallery.scene import CLOSED, OPEN, Scene
from tests.gallery.whole.asking import listed


def every_route(scene: Scene, dag_id: str) -> list[str]:
    """Return an address for every route that there is."""
    run_id = scene.run_ids[dag_id]
    ids = {"dag_id": dag_id, "run_id": run_id, "task_id": "pair", "map_index": -1, "index": 0, "row": 0}
    paths = [route.path for route in (*pages.router.routes, *routes.router.routes) if isinstance(route, APIRoute)]
    assert len(paths) == 11
    return [PREFIX + path.format(**ids, name="gallery.js") for path in paths]


class TestPermission:
    def test_is_asked_by_every_route(self, scene: Scene) -> None:
        bad = scene.client_with({"_token": "bad"})
        with scene.client(None) as stranger, scene.client("nobody") as nobody, bad:
            for path in every_route(scene, OPEN):
                assert stranger.get(path).status_code == 401, path
                assert bad.get(path).status_code in {401, 403}, path
                assert nobody.get(path).status_code == 403, path

    def test_is_that_of_the_dag(self, scene: Scene) -> None:
        with scene.client("guest") as guest, scene.client("viewer") as viewer:
            for path in every_route(scene, CLOSED):
                is_about_a_dag = "/dags/" in path
                assert (guest.get(path).status_code == 403) == is_about_a_dag, path
                assert viewer.get(path).status_code != 403, path

    def test_decides_what_is_newest(self, scene: Scene) -> None:
        with scene.client("guest") as guest, scene.client("viewer") as viewer:
            assert [card["dag_id"] for card in listed(viewer, "images", text="door")] == [CLOSED]
            assert listed(guest, "images", text="door") == []
            assert len(listed(guest, "images", text="bridge")) == 2
            assert guest.get(f"{PREFIX}/images", params={"dag_id": CLOSED}).status_code == 403

    @pytest.mark.parametrize("dag_id", ["~", "%2E%2E", "."])
    def test_is_never_asked_for_all_dags_at_once(self, viewer: httpx.Client, dag_id: str) -> None:
        path = f"{PREFIX}/dags/{dag_id}/runs/~/images"
        assert viewer.get(path).status_code == 404

    def test_is_also_given_by_a_token(self, scene: Scene) -> None:
        headers = {"Authorization": f"Bearer {scene.token('viewer')}"}
        with scene.client(None) as client:
            assert client.get(f"{PREFIX}/{scene.path(OPEN)}/images", headers=headers).status_code == 200


class TestHeaders:
    def test_keep_browsers_careful(self, scene: Scene, viewer: httpx.Client) -> None:
        for path in every_route(scene, OPEN):
            headers = viewer.get(path).headers
            assert "frame-ancestors 'self'" in headers["content-security-policy"], path
            assert "unsafe" not in headers["content-security-policy"], path
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["cache-control"].startswith("private"), path

    def test_let_pages_show_images_of_s3_only(self, scene: Scene, viewer: httpx.Client) -> None:
        policy = viewer.get(f"{PREFIX}/newest").headers["content-security-policy"]
        assert f"img-src 'self' {scene.store.endpoint};" in policy
        assert "script-src 'self';" in policy
