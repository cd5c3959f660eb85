"""Third-party clients work with the emulator."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from PIL import Image

from airflow_provider_imagegen.emulator import DialectName, EmulatorSettings, RunningEmulator
from tests.emulator.conftest import PROMPT
from tests.integration.conftest import released_when

SIZE = "1024x1024"


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningEmulator]:
    with RunningEmulator(EmulatorSettings(dialect=DialectName.OPENAI, preview_share=0, image_bytes=1000)) as running:
        yield running


class TestOpenAIClient:
    @pytest.fixture
    def images(self, emulator: RunningEmulator) -> Iterator[Any]:
        import openai

        client = openai.OpenAI(api_key=emulator.token, base_url=emulator.url("/v1"), max_retries=0)
        with closing(client):
            yield client.images

    def test_it_generates(self, images: Any) -> None:
        response = images.generate(prompt=PROMPT, model="gpt-image-1", size=SIZE)
        assert base64.b64decode(response.data[0].b64_json).startswith(b"\x89PNG")
        assert response.usage.total_tokens > 0

    def test_it_streams(self, images: Any) -> None:
        events = list(images.generate(prompt=PROMPT, model="gpt-image-1", size=SIZE, stream=True, partial_images=1))
        assert [event.type for event in events] == [
            "image_generation.partial_image",
            "image_generation.completed",
        ]

    def test_it_edits(self, images: Any) -> None:
        buffer = io.BytesIO()
        Image.new("RGBA", (64, 64)).save(buffer, "PNG")
        source = ("a.png", buffer.getvalue(), "image/png")
        response = images.edit(image=[source, source], prompt=PROMPT, model="gpt-image-1", size=SIZE)
        assert response.data[0].b64_json

    def test_it_reads_the_refusals(self, images: Any) -> None:
        import openai

        with pytest.raises(openai.BadRequestError) as caught:
            images.generate(prompt="[[moderation]]", model="gpt-image-1")
        assert caught.value.code == "moderation_blocked"
        assert caught.value.request_id.startswith("req_")


class TestAceDataCloudClient:
    @pytest.fixture
    def client(self, emulator: RunningEmulator) -> Iterator[Any]:
        import acedatacloud

        client = acedatacloud.AceDataCloud(api_token=emulator.token, base_url=emulator.base_url)
        yield client
        client.close()

    def test_it_submits_looks_up_and_fetches(self, client: Any) -> None:
        submitted = client.openai.images.generate(prompt=PROMPT, model="gpt-image-1", size=SIZE, async_=True)
        record = client.openai.tasks.retrieve(id=submitted["task_id"])
        assert record["response"]["success"] is True
        assert httpx.get(record["response"]["data"][0]["url"]).content.startswith(b"\x89PNG")
        batch = client.openai.tasks.retrieve_batch(trace_ids=[submitted["trace_id"]])
        assert [each["id"] for each in batch["items"]] == [submitted["task_id"]]

    def test_it_generates_and_waits(self, emulator: RunningEmulator, client: Any) -> None:
        from acedatacloud._runtime import tasks

        looked_up = emulator.totals()["lookups"]
        with released_when(emulator, lambda totals: totals["lookups"] >= looked_up + 2, "two lookups"):
            submitted = client.openai.images.generate(prompt=PROMPT, model="gpt-image-1", size=SIZE, async_=True)
            handle = tasks.TaskHandle(submitted["task_id"], "/openai/tasks", client._transport, submitted=submitted)
            assert tasks.artifact_urls(handle.wait(poll_interval=0.1))

    def test_it_reads_the_state_of_a_task(self, emulator: RunningEmulator, client: Any) -> None:
        from acedatacloud._runtime import tasks

        emulator.hold(times=1)
        running = client.openai.images.generate(prompt=PROMPT, model="gpt-image-1", async_=True)["task_id"]
        blocked = client.openai.images.generate(prompt="[[moderation]]", model="gpt-image-1", async_=True)["task_id"]
        drawn = client.openai.images.generate(prompt=PROMPT, model="gpt-image-1", async_=True)["task_id"]
        states = [tasks.task_status(client.openai.tasks.retrieve(id=task_id)) for task_id in (running, blocked, drawn)]
        assert states == ["", "failed", "succeeded"]
        emulator.release()

    def test_it_reads_a_synchronous_response(self, client: Any) -> None:
        response = client.openai.images.generate(prompt=PROMPT, model="gpt-image-1", size=SIZE)
        assert httpx.get(response["data"][0]["url"]).status_code == 200

    def test_it_edits(self, client: Any) -> None:
        response = client.openai.images.edit(image="https://example.com/a.png", prompt=PROMPT, async_=True)
        assert response["task_id"]
