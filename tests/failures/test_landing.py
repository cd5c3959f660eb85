"""Rows 15 to 17 and 20, 21: failures between the result URL and S3."""

from __future__ import annotations

import pytest

from airflow_provider_imagegen.exceptions import DownloadFailed, NotAnImage, UploadFailed
from airflow_provider_imagegen.failpoints import Failpoint
from airflow_provider_imagegen.landing.download.download import TRIES
from tests.failures.conftest import Harness, killed_at
from tests.stack.object_store import ObjectStore

full = pytest.mark.full


class TestResultThatIsNoImage:
    @pytest.mark.parametrize("kind", ["html", "bomb", "truncated"])
    def test_is_never_put_and_a_retry_downloads_it_without_paying(self, harness: Harness, kind: str) -> None:
        harness.emulator.arm("result", kind, times=1)
        with pytest.raises((NotAnImage, DownloadFailed), match="billed: yes"):
            harness.attempt()
        assert harness.entries()[0].record.state == "submitted"
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1

    def test_costs_its_siblings_nothing(self, harness: Harness) -> None:
        harness.emulator.arm("result", "bomb", times=1)
        manifest = harness.attempt(model="dall-e-2", size="512x512", n=3, on_partial="accept")
        assert (manifest.delivered, manifest.billed) == (2, 3)
        assert [missing.billed for missing in manifest.failures] == ["yes"]


class TestWrongContentType:
    def test_is_decided_by_the_bytes(self, harness: Harness) -> None:
        harness.emulator.arm("result", "wrong_content_type", content_type="text/html")
        (image,) = harness.attempt().images
        assert image.content_type == "image/png"


class TestDownloadThatFails:
    @pytest.mark.parametrize("kind", ["cut", "drop", "reset"])
    def test_once_is_noticed_and_lands_in_the_same_try(self, harness: Harness, kind: str) -> None:
        harness.emulator.arm("result", kind, times=1)
        assert harness.is_landed(harness.attempt())
        assert harness.submits == harness.billed == 1

    @pytest.mark.parametrize("kind", ["cut", *(pytest.param(kind, marks=full) for kind in ("drop", "reset"))])
    def test_repeatedly_is_an_error_and_a_retry_lands_without_paying(self, harness: Harness, kind: str) -> None:
        harness.emulator.arm("result", kind, times=TRIES)
        with pytest.raises(DownloadFailed, match="billed: yes"):
            harness.attempt()
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.billed == 1

    def test_of_an_endless_body_stops_at_the_cap(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_imagegen.landing.download.download.MAX_IMAGE_BYTES", 1_000_000)
        harness.emulator.arm("result", "endless")
        with pytest.raises(NotAnImage, match="more than 1000000 bytes"):
            harness.attempt()


class TestKilledWhileLanding:
    @pytest.mark.parametrize("occurrence", [1, 2, 3])
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_retry_lands_only_what_is_missing(self, harness: Harness, occurrence: int, moment: str) -> None:
        with killed_at(Failpoint.PUT_IMAGE, moment, occurrence):  # type: ignore[arg-type]
            harness.attempt(n=3)
        manifest = harness.attempt(try_number=2, n=3)
        assert harness.is_landed(manifest)
        assert (manifest.delivered, manifest.billed, harness.submits) == (3, 3, 3)
        assert all(image.created_at for image in manifest.images)

    def test_retry_after_the_manifest_only_returns_it(self, harness: Harness) -> None:
        with killed_at(Failpoint.PUT_MANIFEST, "after"):
            harness.attempt(n=2)
        before = harness.emulator.totals()
        manifest = harness.attempt(try_number=2, n=2)
        assert (manifest.reused, manifest.billed) == (2, 2)
        assert harness.emulator.totals() == before


class TestS3ThatRefuses:
    def test_is_an_error_and_a_retry_lands_without_paying(self, harness: Harness, object_store: ObjectStore) -> None:
        harness.s3 = object_store.client()

        def refuse(request: object, **_: object) -> None:
            if request.url.endswith(".png"):  # type: ignore[attr-defined]
                request.headers["Authorization"] = "AWS4-HMAC-SHA256 spoiled"  # type: ignore[attr-defined]

        harness.s3.meta.events.register("before-send.s3", refuse)
        with pytest.raises(UploadFailed, match="billed: yes"):
            harness.attempt()
        harness.s3.meta.events.unregister("before-send.s3", refuse)
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1
