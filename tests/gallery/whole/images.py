"""Images, their thumbnails, and protection against forged XComs."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.gallery.addresses import image_path
from tests.gallery.scene import CLOSED, FORGED, OPEN, Scene
from tests.gallery.whole.asking import address, listed, pages_of, restart_gallery


class TestImage:
    @pytest.fixture
    def cards(self, scene: Scene, viewer: httpx.Client) -> list[dict[str, Any]]:
        return listed(viewer, f"{scene.path(OPEN)}/images", status="landed")

    def test_is_in_s3_where_its_address_leads(
        self, scene: Scene, viewer: httpx.Client, cards: list[dict[str, Any]]
    ) -> None:
        digests = {}
        for card in cards:
            response = viewer.get(address(card))
            assert response.status_code == 307
            fetched = httpx.get(response.headers["location"], trust_env=False)
            assert fetched.status_code == 200
            assert len(fetched.content) == card["bytes"]
            digests[card["task_id"], card["index"]] = hashlib.sha256(fetched.content).hexdigest()
        assert digests["pair", 1] == scene.xcom(OPEN, "pair")["images"][1]["sha256"]

    def test_has_an_address_for_markdown(self, scene: Scene, viewer: httpx.Client) -> None:
        run_id = scene.run_ids[OPEN]
        for path in (
            image_path(OPEN, run_id, "pair", -1, 1),
            image_path(OPEN, run_id, "mapped", 1, 0),
            image_path(OPEN, run_id, "batch", -1, 1, row=2),
        ):
            assert viewer.get(path).status_code == 307, path

    def test_may_not_exist(self, scene: Scene, viewer: httpx.Client) -> None:
        run_id = scene.run_ids[OPEN]
        for path in (
            image_path(OPEN, run_id, "pair", -1, 2),
            image_path(OPEN, run_id, "pair", -1, 0, row=0),
            image_path(OPEN, run_id, "batch", -1, 0),
            image_path(OPEN, run_id, "batch", -1, 0, row=1),
            image_path(OPEN, run_id, "batch", -1, 0, row=99),
            image_path(OPEN, run_id, "something_else", -1, 0),
            image_path(OPEN, run_id, "mapped", -2, 0),
        ):
            assert viewer.get(path).status_code == 404, path

    def test_is_downloaded_as_a_file(self, viewer: httpx.Client, cards: list[dict[str, Any]]) -> None:
        location = viewer.get(address(cards[0], "/download")).headers["location"]
        disposition = httpx.get(location, trust_env=False).headers["content-disposition"]
        assert disposition == 'attachment; filename="one.png"'

    def test_has_a_small_version_that_browsers_keep(self, viewer: httpx.Client, cards: list[dict[str, Any]]) -> None:
        for card in cards:
            response = viewer.get(address(card, "/thumbnail")).raise_for_status()
            assert response.headers["content-type"] == "image/webp"
            assert response.headers["cache-control"] == "private, max-age=3600"
            again = viewer.get(address(card, "/thumbnail"), headers={"If-None-Match": response.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


class TestForgedXComs:
    """Users who can write XComs must not gain access to other objects through the server's permissions."""

    @pytest.fixture(autouse=True)
    def forget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In Airflow 3.1 a changed XCom is as old as before, so for a minute it is taken for what it was."""
        restart_gallery(monkeypatch)

    def forge(self, scene: Scene, **changes: Any) -> dict[str, Any]:
        manifest = scene.xcom(CLOSED, "secret")
        (image,) = manifest["images"]
        image |= {name: value for name, value in changes.items() if name in image}
        manifest |= {name: value for name, value in changes.items() if name in manifest}
        scene.forge("forged", manifest)
        return dict(image)

    def answers(self, scene: Scene, kind: str = "") -> httpx.Response:
        with scene.client("guest") as guest:
            pages = pages_of(guest, f"{scene.path(FORGED)}/images")
            card = next(card for page in pages for card in page["cards"] if card["task_id"] == "forged")
            return guest.get(address(card, kind))

    @pytest.mark.parametrize("kind", ["", "/thumbnail", "/download"])
    def test_lead_to_no_image_of_another_dag(self, scene: Scene, kind: str) -> None:
        self.forge(scene, sha256=hashlib.sha256(kind.encode()).hexdigest())
        assert self.answers(scene, kind).status_code == 410

    @pytest.mark.parametrize("kind", ["", "/thumbnail", "/download"])
    def test_lead_to_no_other_object(self, scene: Scene, kind: str) -> None:
        store = scene.store
        key = f"private/{kind.strip('/')}.png"
        store.client().put_object(Bucket=store.bucket, Key=key, Body=b"private", ContentType="image/png")
        self.forge(scene, key=key, sha256=hashlib.sha256(key.encode()).hexdigest())
        assert self.answers(scene, kind).status_code == 404

    def test_name_no_digest_that_is_a_path(self, scene: Scene) -> None:
        self.forge(scene, sha256="../../../../etc/passwd")
        assert self.answers(scene, "/thumbnail").status_code == 404

    def test_tell_no_prompt_of_another_dag(self, scene: Scene) -> None:
        self.forge(scene)
        with scene.client("guest") as guest:
            pages = pages_of(guest, f"{scene.path(FORGED)}/images")
            card = next(card for page in pages for card in page["cards"] if card["task_id"] == "forged")
        assert "prompt" not in card

    def test_tell_no_rows_of_another_dag(self, scene: Scene) -> None:
        summary = scene.xcom(OPEN, "batch")
        scene.forge("forged", summary)
        with scene.client("guest") as guest:
            pages = list(pages_of(guest, f"{scene.path(FORGED)}/images", text="poplars"))
        assert [card for page in pages for card in page["cards"]] == []
        assert "was not written by this DAG" in " ".join(warning for page in pages for warning in page["warnings"])

    def test_lead_to_no_rows_of_another_installation(self, scene: Scene) -> None:
        """It has a DAG of the same name and uses the same S3; nobody here knows the digest of its rows."""
        scene.store.client().create_bucket(Bucket="other-installation")
        rows = [{"row": 0, "key": "foreign", "status": "failed", "code": "bad_size"}]
        summary = scene.put_rows("other-installation", "forged", rows)
        scene.forge("forged", summary | {"manifest_sha256": "0" * 64})
        with scene.client("guest") as guest:
            pages = list(pages_of(guest, f"{scene.path(FORGED)}/images", text="foreign"))
        assert [card for page in pages for card in page["cards"]] == []

    def test_lead_to_no_image_in_another_bucket(self, scene: Scene) -> None:
        image = scene.xcom(OPEN, "pair")["images"][0] | {"bucket": "other-installation"}
        row = {"row": 0, "key": "elsewhere", "status": "landed", "images": [image]}
        scene.forge("forged", scene.put_rows(scene.store.bucket, "forged", [row]))
        with scene.client("guest") as guest:
            page = next(pages_of(guest, f"{scene.path(FORGED)}/images", text="elsewhere", limit=1))
            (card,) = page["cards"]
            assert (card["kind"], card["code"]) == ("failure", "unreadable")
            path = image_path(FORGED, scene.run_ids[FORGED], "forged", -1, 0, row=0)
            assert guest.get(path).status_code == 404

    def test_open_no_vector_images(self, scene: Scene) -> None:
        store = scene.store
        body = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
        digest = hashlib.sha256(body).hexdigest()
        noted = {"airflow-dag": FORGED, "sha256": digest}
        store.client().put_object(
            Bucket=store.bucket, Key="drawn.svg", Body=body, ContentType="image/svg+xml", Metadata=noted
        )
        self.forge(scene, key="drawn.svg", sha256=digest, content_type="image/svg+xml")
        location = self.answers(scene).headers["location"]
        assert httpx.get(location, trust_env=False).headers["content-disposition"].startswith("attachment")
        assert self.answers(scene, "/thumbnail").status_code == 415
