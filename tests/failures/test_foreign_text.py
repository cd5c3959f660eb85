"""Text that UTF-8 or a database cannot hold, in what a gateway says: it is replaced, and everything goes on."""

from __future__ import annotations

import pytest

from airflow_provider_imagegen.exceptions import GenerationFailed
from airflow_provider_imagegen.schemas import Manifest
from tests.failures.conftest import Harness

REPLACED = "half a pair \ufffd, NUL "


class TestRevisedPrompt:
    @pytest.mark.parametrize(
        ("gateway", "path", "route"), [("openai", "/openai-api", "submit"), ("acedatacloud", "", "lookup")]
    )
    def test_is_replaced_and_the_image_lands(self, harness: Harness, gateway: str, path: str, route: str) -> None:
        harness.use(gateway, path)
        harness.emulator.arm(route, "odd_text", times=None)
        first = harness.attempt()
        assert harness.is_landed(first)
        assert [image.revised_prompt for image in first.images] == [REPLACED]
        assert [entry.record.state for entry in harness.entries()] == ["landed"]
        # Another try finds the record, and XCom takes what is returned.
        assert harness.attempt(try_number=2).images == tuple(
            image.model_copy(update={"reused": True}) for image in first.images
        )
        assert Manifest.model_validate_json(first.model_dump_json()) == first
        assert harness.billed == 1


class TestMessageOfAFailedTask:
    def test_is_replaced_and_the_next_try_generates_again(self, harness: Harness) -> None:
        harness.emulator.arm("submit", "fail", code="api_error", times=1)
        harness.emulator.arm("lookup", "odd_text", times=None)
        with pytest.raises(GenerationFailed, match="half a pair \ufffd, NUL"):
            harness.attempt()
        assert harness.is_landed(harness.attempt(try_number=2))
        assert (harness.submits, harness.billed) == (2, 1)
