"""Landed objects: the image, differences from the request, its AI mark, and its origin."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.engine.run import GenerateRun
from airflow_provider_imagegen.exceptions import (
    NotAnImage,
    ObjectExists,
    OutcomeUnknown,
    PartialDelivery,
    TempFileFailed,
)
from airflow_provider_imagegen.landing import ImageProcessing, Landing
from airflow_provider_imagegen.landing.verify import verify as verify_file
from airflow_provider_imagegen.schemas import ImageOutput, ImageTask, LandedImage, Manifest
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.storage.options import ObjectOptions
from tests.conftest import BUCKET
from tests.failures.conftest import Harness
from tests.failures.test_s3 import disk_of
from tests.fuzz.corpus import whole_images

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"><script>alert(1)</script></svg>'


def run(work: GenerateRun) -> Manifest:
    manifest = asyncio.run(work.begin())
    assert isinstance(manifest, Manifest)
    return manifest


def body(harness: Harness, image: LandedImage) -> bytes:
    content: bytes = harness.s3.get_object(Bucket=image.bucket, Key=image.key)["Body"].read()
    return content


class TestSidecar:
    def test_tells_where_everything_comes_from(self, harness: Harness) -> None:
        manifest = harness.attempt(n=2, size="1024x1024", extra={"look": "https://style.example/a?sig=hush"})
        key = manifest.manifest_uri.removeprefix(f"s3://{BUCKET}/")
        sidecar = json.loads(harness.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        assert {name: sidecar[name] for name in ("requested", "delivered", "billed")} == dict.fromkeys(
            ("requested", "delivered", "billed"), 2
        )
        assert sidecar["origin"] == {
            "dag_id": "dag",
            "task_id": "t",
            "run_id": harness.run_id,
            "map_index": -1,
            "try_number": 1,
        }
        assert sidecar["request"]["prompt"] == "a lighthouse"
        assert sidecar["request"]["look"] == "https://style.example/a?…"
        assert sidecar["prompt_sha256"] == hashlib.sha256(b"a lighthouse").hexdigest()

    def test_leaves_callback_addresses_out(self, harness: Harness) -> None:
        manifest = harness.attempt(callback_url="https://hooks.example/secret-path")
        key = manifest.manifest_uri.removeprefix(f"s3://{BUCKET}/")
        assert b"secret-path" not in harness.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


class TestImageThatIsNotWhatWasAskedFor:
    def test_lands_and_is_noted(self, harness: Harness) -> None:
        harness.draw()
        harness.emulator.arm("submit", "other_size")
        (image,) = harness.attempt(size="1024x1024").images
        assert image.differs == {"size": f"{image.width}x{image.height}"}

    def test_is_not_noted_where_nothing_certain_was_asked(self, harness: Harness) -> None:
        (image,) = harness.attempt(size="auto", output_format="png").images
        assert image.differs == {}


class TestProvenance:
    def marked(self, harness: Harness, **kwargs: Any) -> GenerateRun:
        harness.draw()
        return dataclasses.replace(
            harness.work(**kwargs), processing=ImageProcessing(provenance=True, model=kwargs.get("model"))
        )

    @pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
    def test_is_in_the_file_that_lands(self, harness: Harness, output_format: str) -> None:
        (image,) = run(self.marked(harness, output_format=output_format)).images
        content = body(harness, image)
        assert b"trainedAlgorithmicMedia" in content
        assert (image.provenance, image.sha256) == ("added", hashlib.sha256(content).hexdigest())

    def test_is_left_out_unless_requested(self, harness: Harness) -> None:
        (image,) = harness.attempt().images
        assert image.provenance is None
        assert b"trainedAlgorithmicMedia" not in body(harness, image)


class TestObjectInTheWay:
    def kept(self, harness: Harness, **kwargs: Any) -> GenerateRun:
        work = harness.work(**kwargs)
        options = ObjectOptions(replace=False)
        return dataclasses.replace(work, destination=dataclasses.replace(work.destination, options=options))

    def test_is_noticed_before_anything_is_paid(self, harness: Harness) -> None:
        work = self.kept(harness)
        harness.s3.put_object(Bucket=BUCKET, Key=work.destination.key("0.jpg"), Body=b"somebody else's")
        with pytest.raises(ObjectExists, match=r"0.jpg is there already.*billed: no"):
            run(work)
        assert harness.submits == 0
        harness.s3.delete_object(Bucket=BUCKET, Key=work.destination.key("0.jpg"))
        assert harness.is_landed(run(self.kept(harness, try_number=2)))

    def test_is_no_matter_where_it_is_ones_own(self, harness: Harness) -> None:
        assert harness.is_landed(run(self.kept(harness)))
        assert harness.is_landed(run(self.kept(harness, try_number=2, epoch=1)))
        assert harness.submits == 1


class TestSvg:
    async def land(self, harness: Harness, tmp_path: Path, processing: ImageProcessing) -> LandedImage:
        file = tmp_path / "drawing"
        file.write_bytes(SVG)
        destination = Destination(bucket=BUCKET, prefix=f"svg/{harness.run_id}")
        task = ImageTask(state="succeeded", task_id="t1", trace_id="tr1")
        async with Landing(harness.s3, destination, harness.settings, {}, processing) as landing:
            return await landing.land(ImageOutput(file=file), 0, task, "0")

    async def test_is_refused_unless_requested(self, harness: Harness, tmp_path: Path) -> None:
        with pytest.raises(NotAnImage):
            await self.land(harness, tmp_path, ImageProcessing())

    async def test_is_served_as_an_attachment(self, harness: Harness, tmp_path: Path) -> None:
        image = await self.land(harness, tmp_path, ImageProcessing(svg=True))
        head = harness.s3.head_object(Bucket=BUCKET, Key=image.key)
        assert (head["ContentType"], head["ContentDisposition"]) == ("image/svg+xml", "attachment")
        assert (image.key.rpartition(".")[2], image.width, image.height) == ("svg", 30, 20)


class TestImageFoundAgain:
    async def test_is_described_as_when_it_was_put(self, harness: Harness, tmp_path: Path) -> None:
        file = tmp_path / "image"
        file.write_bytes(whole_images()["png"])
        destination = Destination(bucket=BUCKET, prefix=f"found/{harness.run_id}")
        task = ImageTask(state="succeeded", task_id="tâche 1 %", trace_id="tr1")
        async with Landing(harness.s3, destination, harness.settings, {"airflow-dag": "d"}) as landing:
            image = await landing.land(ImageOutput(file=file), 0, task, "0")
            assert await landing.find("tr1", {0: "0", 1: "1"}) == (image,)
            assert await landing.find("tr2", {0: "0"}) == ()


class TestDiskWithoutRoom:
    def test_is_noticed_before_an_image_is_paid_that_nobody_else_keeps(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.use("openai", "/openai-api")
        monkeypatch.setattr("airflow_provider_imagegen.engine.job.MAX_IMAGE_BYTES", 1 << 60)
        with pytest.raises(TempFileFailed, match=r"to spare.*billed: no"):
            harness.attempt()
        assert harness.submits == 0
        assert harness.entries() == []

    def test_for_a_response_leaves_a_request_to_be_found(self, harness: Harness) -> None:
        harness.emulator.change(image_bytes=300_000)
        with disk_of(100_000), pytest.raises(TempFileFailed, match="billed: yes"):
            harness.attempt()
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1

    def test_for_a_response_with_the_image_is_reported(self, harness: Harness) -> None:
        harness.use("openai", "/openai-api")
        harness.emulator.change(image_bytes=300_000)
        with disk_of(100_000), pytest.raises(OutcomeUnknown, match=r"the response came, and .* could not be kept in"):
            harness.attempt()
        harness.policy = Policy(on_unknown="resubmit")
        assert harness.is_landed(harness.attempt(try_number=2))


class TestUnexpectedError:
    def test_of_one_image_costs_its_siblings_nothing(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """The library that reads image headers is broken, for one image."""
        verify, struck = verify_file, []

        def broken(file: Any, svg: bool = False) -> Any:
            if not struck:
                struck.append("struck")
                raise RuntimeError("a surprise")
            return verify(file, svg)

        monkeypatch.setattr("airflow_provider_imagegen.landing.landing.verify", broken)
        with pytest.raises(PartialDelivery, match=r"1 of 2 .*RuntimeError.*billed: yes"):
            harness.attempt(n=2)
        assert harness.is_landed(harness.attempt(try_number=2, n=2))
        assert harness.submits == harness.billed == 2


class TestRevisedPrompt:
    def test_is_kept_without_signed_addresses(self) -> None:
        output = ImageOutput(url="u", revised_prompt="as in https://cdn.example/a.png?sig=AAAA")
        assert output.revised_prompt == "as in https://cdn.example/a.png?…"
