"""Images in the response of a synchronous gateway, which keeps no copy: the task is killed after it was billed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.exceptions import PaidImageLost
from airflow_provider_imagegen.failpoints import Failpoint
from tests.conftest import BUCKET
from tests.failures.conftest import Harness, killed_at


@pytest.fixture
def answering(harness: Harness) -> Harness:
    """A harness whose gateway answers with the image itself."""
    harness.use("openai", "/openai-api")
    harness.draw()
    return harness


@pytest.fixture
def killed_after_puts(answering: Harness) -> Callable[[int, int], Harness]:
    """Kill a try of so many images, of which so many got into S3, before it can note that."""

    def kill(images: int, puts: int) -> Harness:
        with killed_at(Failpoint.PUT_IMAGE, "after", images):
            answering.attempt(n=images)
        assert [entry.record.state for entry in answering.entries()] == ["answered"]
        for index in range(puts, images):
            answering.s3.delete_object(Bucket=BUCKET, Key=f"failures/{answering.run_id}/dag/{index}.png")
        return answering

    return kill


class TestPutAndNotNoted:
    @pytest.mark.parametrize("on_unknown", ["fail", "resubmit"])
    def test_is_found_in_s3_and_returned_without_paying(
        self, killed_after_puts: Callable[[int, int], Harness], on_unknown: str
    ) -> None:
        harness = killed_after_puts(2, 2)
        harness.policy = Policy(on_unknown=on_unknown)  # type: ignore[arg-type]
        manifest = harness.attempt(try_number=2, n=2)
        assert harness.is_landed(manifest)
        assert [(image.index, image.width, image.height) for image in manifest.images] == [
            (0, 1024, 1024),
            (1, 1024, 1024),
        ]
        assert (manifest.billed, harness.billed, harness.submits) == (2, 2, 1)
        assert [entry.record.state for entry in harness.entries()] == ["landed"]

    def test_is_not_taken_from_another_run(self, answering: Harness) -> None:
        answering.attempt()
        with killed_at(Failpoint.PUT_IMAGE, "before"):
            answering.attempt(prompt="something else")
        with pytest.raises(PaidImageLost, match="billed: yes"):
            answering.attempt(try_number=2, prompt="something else")


class TestPutInPart:
    def test_is_an_error_that_names_the_loss_and_is_not_retried(
        self, killed_after_puts: Callable[[int, int], Harness]
    ) -> None:
        harness = killed_after_puts(3, 1)
        with pytest.raises(PaidImageLost, match=r"keeps no copy.*billed: yes"):
            harness.attempt(try_number=2, n=3)
        assert harness.submits == 1

    def test_returns_existing_images_where_fewer_are_accepted(
        self, killed_after_puts: Callable[[int, int], Harness]
    ) -> None:
        harness = killed_after_puts(3, 1)
        manifest = harness.attempt(try_number=2, n=3, on_partial="accept")
        assert harness.is_landed(manifest)
        assert (manifest.delivered, manifest.billed, harness.billed) == (1, 3, 3)
        assert {missing.code for missing in manifest.failures} == {"PaidImageLost"}

    def test_is_generated_again_where_that_was_chosen(self, killed_after_puts: Callable[[int, int], Harness]) -> None:
        harness = killed_after_puts(3, 1)
        harness.policy = Policy(on_unknown="resubmit")
        manifest = harness.attempt(try_number=2, n=3)
        assert harness.is_landed(manifest)
        assert (manifest.delivered, manifest.billed, harness.billed) == (3, 6, 6)
