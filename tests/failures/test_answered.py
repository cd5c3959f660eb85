"""Pictures that come with the answer to the submit, of which the gateway keeps no copy: paid for, then interrupted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_imagegen.effects import Effect
from airflow_provider_imagegen.exceptions import PaidImageLost
from airflow_provider_imagegen.resume import Policy
from tests.conftest import BUCKET
from tests.failures.conftest import Laboratory, killed_at


@pytest.fixture
def answering(laboratory: Laboratory) -> Laboratory:
    """A laboratory whose gateway answers with the picture itself."""
    laboratory.use("openai", "/openai-api")
    laboratory.draw()
    return laboratory


@pytest.fixture
def killed_after_puts(answering: Laboratory) -> Callable[[int, int], Laboratory]:
    """Kill a try of so many images, of which so many got into S3, before it can note that."""

    def kill(images: int, puts: int) -> Laboratory:
        with killed_at(Effect.PUT_IMAGE, "after", images):
            answering.attempt(n=images)
        assert [entry.record.state for entry in answering.entries()] == ["answered"]
        for index in range(puts, images):
            answering.s3.delete_object(Bucket=BUCKET, Key=f"failures/{answering.run_id}/dag/{index}.png")
        return answering

    return kill


class TestPutAndNotNoted:
    @pytest.mark.parametrize("on_unknown", ["fail", "resubmit"])
    def test_is_found_in_s3_and_handed_out_for_nothing(
        self, killed_after_puts: Callable[[int, int], Laboratory], on_unknown: str
    ) -> None:
        laboratory = killed_after_puts(2, 2)
        laboratory.policy = Policy(on_unknown=on_unknown)  # type: ignore[arg-type]
        manifest = laboratory.attempt(try_number=2, n=2)
        assert laboratory.is_landed(manifest)
        assert [(image.index, image.width, image.height) for image in manifest.images] == [
            (0, 1024, 1024),
            (1, 1024, 1024),
        ]
        assert (manifest.billed, laboratory.billed, laboratory.submits) == (2, 2, 1)
        assert [entry.record.state for entry in laboratory.entries()] == ["landed"]

    def test_is_not_taken_from_another_run(self, answering: Laboratory) -> None:
        answering.attempt()
        with killed_at(Effect.PUT_IMAGE, "before"):
            answering.attempt(prompt="something else")
        with pytest.raises(PaidImageLost, match="billed: yes"):
            answering.attempt(try_number=2, prompt="something else")


class TestPutInPart:
    def test_is_an_error_that_names_the_loss_and_is_not_retried(
        self, killed_after_puts: Callable[[int, int], Laboratory]
    ) -> None:
        laboratory = killed_after_puts(3, 1)
        with pytest.raises(PaidImageLost, match=r"keeps no copy.*billed: yes"):
            laboratory.attempt(try_number=2, n=3)
        assert laboratory.submits == 1

    def test_hands_out_what_is_there_where_fewer_are_accepted(
        self, killed_after_puts: Callable[[int, int], Laboratory]
    ) -> None:
        laboratory = killed_after_puts(3, 1)
        manifest = laboratory.attempt(try_number=2, n=3, on_partial="accept")
        assert laboratory.is_landed(manifest)
        assert (manifest.delivered, manifest.billed, laboratory.billed) == (1, 3, 3)
        assert {missing.code for missing in manifest.failures} == {"PaidImageLost"}

    def test_is_drawn_anew_where_that_was_chosen(self, killed_after_puts: Callable[[int, int], Laboratory]) -> None:
        laboratory = killed_after_puts(3, 1)
        laboratory.policy = Policy(on_unknown="resubmit")
        manifest = laboratory.attempt(try_number=2, n=3)
        assert laboratory.is_landed(manifest)
        assert (manifest.delivered, manifest.billed, laboratory.billed) == (3, 6, 6)
