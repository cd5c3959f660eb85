"""Configuration options of the gallery, and messages for wrong ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import httpx
import pytest

from airflow_provider_imagegen.gallery.addresses import PREFIX, image_path, newest_page
from tests.gallery.scene import CLOSED, OPEN, Scene
from tests.gallery.whole.asking import listed, pages_of, restart_gallery, short


class TestConfiguration:
    @pytest.fixture
    def configure(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Start the gallery again with another configuration."""

        def configured(**options: str) -> None:
            for name, value in options.items():
                monkeypatch.setenv(f"AIRFLOW__IMAGEGEN__{name.upper()}", value)
            restart_gallery(monkeypatch)

        return configured

    def test_may_have_the_server_hand_images_out(
        self, scene: Scene, viewer: httpx.Client, configure: Callable[..., None]
    ) -> None:
        configure(gallery_redirects="False")
        path = image_path(OPEN, scene.run_ids[OPEN], "pair", -1, 0)
        shown, saved = viewer.get(path), viewer.get(f"{path}/download")
        assert hashlib.sha256(shown.content).hexdigest() == scene.xcom(OPEN, "pair")["images"][0]["sha256"]
        assert "sandbox" in shown.headers["content-security-policy"]
        assert shown.headers["content-disposition"] == 'inline; filename="0.png"'
        assert saved.headers["content-disposition"] == 'attachment; filename="0.png"'
        assert "img-src 'self';" in viewer.get(newest_page()).headers["content-security-policy"]

    @pytest.mark.parametrize(
        ("endpoint", "words"),
        [("not an address", "AWS connection 'aws_wrong' cannot be used"), ("http://127.0.0.1:9", "Could not connect")],
    )
    def test_may_be_wrong(
        self,
        *,
        scene: Scene,
        viewer: httpx.Client,
        configure: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        endpoint: str,
        words: str,
    ) -> None:
        extra = {"endpoint_url": endpoint, "config_kwargs": {"retries": {"total_max_attempts": 1}}}
        connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_WRONG", json.dumps(connection))
        configure(gallery_aws_conn_id="aws_wrong")
        assert viewer.get(newest_page()).status_code == 200
        pages = list(pages_of(viewer, f"{scene.path(OPEN)}/images"))
        warnings = " ".join(warning for page in pages for warning in page["warnings"])
        assert words in warnings
        assert "Cannot read prompts." in warnings
        assert "Cannot read the rows of batch." in warnings
        assert ("image", "pair", None, 0) in {short(card) for page in pages for card in page["cards"]}
        response = viewer.get(image_path(OPEN, scene.run_ids[OPEN], "pair", -1, 0))
        assert response.status_code == 502
        assert words in response.json()["detail"]

    def test_may_keep_no_thumbnails(self, scene: Scene, viewer: httpx.Client, configure: Callable[..., None]) -> None:
        configure(gallery_cache_directory="/dev/null/thumbnails", gallery_cache_megabytes="0")
        path = f"{image_path(CLOSED, scene.run_ids[CLOSED], 'secret', -1, 0)}/thumbnail"
        assert viewer.get(path).headers["content-type"] == "image/webp"


class TestPage:
    def test_says_that_it_is_loading_before_its_script_runs(self, viewer: httpx.Client) -> None:
        page = viewer.get(newest_page()).text
        assert page.count("Loading …") == 2
        assert page.index("Loading …") > page.index("<script")


class TestStaticFiles:
    @pytest.mark.parametrize("name", ["gallery.js", "gallery.css", "icon.svg"])
    def test_are_kept_by_browsers(self, viewer: httpx.Client, name: str) -> None:
        response = viewer.get(f"{PREFIX}/static/{name}").raise_for_status()
        again = viewer.get(f"{PREFIX}/static/{name}", headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    @pytest.mark.parametrize("name", ["page.html", "nothing.js", "..%2Fpages.py"])
    def test_are_no_others(self, viewer: httpx.Client, name: str) -> None:
        assert viewer.get(f"{PREFIX}/static/{name}").status_code == 404


class TestWithoutTaskInstances:
    def test_shows_what_is_returned(self, scene: Scene) -> None:
        """Whoever may read XComs need not be allowed to see task instances."""
        with scene.client("reader") as reader:
            cards = {short(card) for card in listed(reader, f"{scene.path(OPEN)}/images")}
        assert ("image", "pair", None, 0) in cards
        assert ("failure", "silent", None, None) not in cards
