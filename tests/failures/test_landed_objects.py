"""What lands: the picture as it was asked for or what it is instead, its mark, and where it comes from."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_imagegen.exceptions import (
    NotAnImage,
    ObjectExists,
    OutcomeUnknown,
    PartialDelivery,
    SpoolFailed,
)
from airflow_provider_imagegen.landing import Destination, Landing, ObjectOptions, Treatment, pictures
from airflow_provider_imagegen.operators.work import Work
from airflow_provider_imagegen.resume import Policy
from airflow_provider_imagegen.schemas import ImageOutput, ImageTask, LandedImage, Manifest
from tests.conftest import BUCKET
from tests.failures.conftest import Laboratory
from tests.failures.test_s3 import disk_of

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"><script>alert(1)</script></svg>'


def run(work: Work) -> Manifest:
    manifest = asyncio.run(work.begin())
    assert isinstance(manifest, Manifest)
    return manifest


def body(laboratory: Laboratory, image: LandedImage) -> bytes:
    content: bytes = laboratory.s3.get_object(Bucket=image.bucket, Key=image.key)["Body"].read()
    return content


class TestSidecar:
    def test_tells_where_everything_comes_from(self, laboratory: Laboratory) -> None:
        manifest = laboratory.attempt(n=2, size="1024x1024", extra={"look": "https://style.example/a?sig=hush"})
        key = manifest.manifest_uri.removeprefix(f"s3://{BUCKET}/")
        sidecar = json.loads(laboratory.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        assert {name: sidecar[name] for name in ("requested", "delivered", "billed")} == dict.fromkeys(
            ("requested", "delivered", "billed"), 2
        )
        assert sidecar["origin"] == {
            "dag_id": "dag",
            "task_id": "t",
            "run_id": laboratory.run_id,
            "map_index": -1,
            "try_number": 1,
        }
        assert sidecar["request"]["prompt"] == "a lighthouse"
        assert sidecar["request"]["look"] == "https://style.example/a?…"
        assert sidecar["prompt_sha256"] == hashlib.sha256(b"a lighthouse").hexdigest()

    def test_leaves_callback_addresses_out(self, laboratory: Laboratory) -> None:
        manifest = laboratory.attempt(callback_url="https://hooks.example/secret-path")
        key = manifest.manifest_uri.removeprefix(f"s3://{BUCKET}/")
        assert b"secret-path" not in laboratory.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


class TestPictureThatIsNotWhatWasAskedFor:
    def test_lands_and_is_noted(self, laboratory: Laboratory) -> None:
        laboratory.draw()
        laboratory.emulator.arm("submit", "other_size")
        (image,) = laboratory.attempt(size="1024x1024").images
        assert image.differs == {"size": f"{image.width}x{image.height}"}

    def test_is_not_noted_where_nothing_certain_was_asked(self, laboratory: Laboratory) -> None:
        (image,) = laboratory.attempt(size="auto", output_format="png").images
        assert image.differs == {}


class TestProvenance:
    def marked(self, laboratory: Laboratory, **kwargs: Any) -> Work:
        laboratory.draw()
        return dataclasses.replace(
            laboratory.work(**kwargs), treatment=Treatment(provenance=True, model=kwargs.get("model"))
        )

    @pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
    def test_is_in_the_file_that_lands(self, laboratory: Laboratory, output_format: str) -> None:
        (image,) = run(self.marked(laboratory, output_format=output_format)).images
        content = body(laboratory, image)
        assert b"trainedAlgorithmicMedia" in content
        assert (image.provenance, image.sha256) == ("added", hashlib.sha256(content).hexdigest())

    def test_is_left_out_unless_asked_for(self, laboratory: Laboratory) -> None:
        (image,) = laboratory.attempt().images
        assert image.provenance is None
        assert b"trainedAlgorithmicMedia" not in body(laboratory, image)


class TestObjectInTheWay:
    def kept(self, laboratory: Laboratory, **kwargs: Any) -> Work:
        work = laboratory.work(**kwargs)
        options = ObjectOptions(replace=False)
        return dataclasses.replace(work, destination=dataclasses.replace(work.destination, options=options))

    def test_is_noticed_before_anything_is_paid(self, laboratory: Laboratory) -> None:
        work = self.kept(laboratory)
        laboratory.s3.put_object(Bucket=BUCKET, Key=work.destination.key("0.jpg"), Body=b"somebody else's")
        with pytest.raises(ObjectExists, match=r"0.jpg is there already.*billed: no"):
            run(work)
        assert laboratory.submits == 0
        laboratory.s3.delete_object(Bucket=BUCKET, Key=work.destination.key("0.jpg"))
        assert laboratory.is_landed(run(self.kept(laboratory, try_number=2)))

    def test_is_no_matter_where_it_is_ones_own(self, laboratory: Laboratory) -> None:
        assert laboratory.is_landed(run(self.kept(laboratory)))
        assert laboratory.is_landed(run(self.kept(laboratory, try_number=2, epoch=1)))
        assert laboratory.submits == 1


class TestSvg:
    async def land(self, laboratory: Laboratory, tmp_path: Path, treatment: Treatment) -> LandedImage:
        file = tmp_path / "drawing"
        file.write_bytes(SVG)
        destination = Destination(bucket=BUCKET, prefix=f"svg/{laboratory.run_id}")
        task = ImageTask(state="succeeded", task_id="t1", trace_id="tr1")
        async with Landing(laboratory.s3, destination, laboratory.settings, {}, treatment) as landing:
            return await landing.land(ImageOutput(file=file), 0, task, "0")

    async def test_is_refused_unless_asked_for(self, laboratory: Laboratory, tmp_path: Path) -> None:
        with pytest.raises(NotAnImage):
            await self.land(laboratory, tmp_path, Treatment())

    async def test_is_served_as_an_attachment(self, laboratory: Laboratory, tmp_path: Path) -> None:
        image = await self.land(laboratory, tmp_path, Treatment(svg=True))
        head = laboratory.s3.head_object(Bucket=BUCKET, Key=image.key)
        assert (head["ContentType"], head["ContentDisposition"]) == ("image/svg+xml", "attachment")
        assert (image.key.rpartition(".")[2], image.width, image.height) == ("svg", 30, 20)


class TestDiskWithoutRoom:
    def test_is_noticed_before_a_picture_is_paid_that_nobody_else_keeps(
        self, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        laboratory.use("openai", "/openai-api")
        monkeypatch.setattr("airflow_provider_imagegen.job.MAX_IMAGE_BYTES", 1 << 60)
        with pytest.raises(SpoolFailed, match=r"to spare.*billed: no"):
            laboratory.attempt()
        assert laboratory.submits == 0
        assert laboratory.entries() == []

    def test_for_an_answer_leaves_a_request_to_be_found(self, laboratory: Laboratory) -> None:
        laboratory.emulator.change(image_bytes=300_000)
        with disk_of(100_000), pytest.raises(SpoolFailed, match="billed: yes"):
            laboratory.attempt()
        assert laboratory.is_landed(laboratory.attempt(try_number=2))
        assert laboratory.submits == laboratory.billed == 1

    def test_for_an_answer_with_the_picture_in_it_says_so(self, laboratory: Laboratory) -> None:
        laboratory.use("openai", "/openai-api")
        laboratory.emulator.change(image_bytes=300_000)
        with disk_of(100_000), pytest.raises(OutcomeUnknown, match=r"the answer came, and .* could not be kept in"):
            laboratory.attempt()
        laboratory.policy = Policy(on_unknown="resubmit")
        assert laboratory.is_landed(laboratory.attempt(try_number=2))


class TestSurprise:
    def test_of_one_image_costs_its_siblings_nothing(
        self, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The library that reads image headers is broken, for one image."""
        verify, struck = pictures.verify, []

        def broken(file: Any, svg: bool = False) -> Any:
            if not struck:
                struck.append("struck")
                raise RuntimeError("a surprise")
            return verify(file, svg)

        monkeypatch.setattr("airflow_provider_imagegen.landing.landing.verify", broken)
        with pytest.raises(PartialDelivery, match=r"1 of 2 .*RuntimeError.*billed: yes"):
            laboratory.attempt(n=2)
        assert laboratory.is_landed(laboratory.attempt(try_number=2, n=2))
        assert laboratory.submits == laboratory.billed == 2


class TestRevisedPrompt:
    def test_is_kept_without_signed_addresses(self) -> None:
        output = ImageOutput(url="u", revised_prompt="as in https://cdn.example/a.png?sig=AAAA")
        assert output.revised_prompt == "as in https://cdn.example/a.png?…"
