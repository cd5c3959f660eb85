"""Our hook behind a LiteLLM proxy: what works, what it costs, and what our errors say of it.

The counts of paid calls are what this release of LiteLLM really does. Our side sends one in every case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import OutcomeUnknown, RateLimited, RequestRefused
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from airflow_provider_imagegen.schemas import ImageTask
from tests.peers.conftest import Connect
from tests.peers.heavy.litellm_proxy import ACE, OPENAI, LiteLLMProxy
from tests.stack.waiting import HANG

pytestmark = pytest.mark.heavy

PROMPT = "a lighthouse in a storm"
SUBMIT_PATH = "/v1/images/generations"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, running_emulator: RunningEmulator) -> Iterator[LiteLLMProxy]:
    """As it comes."""
    proxy = LiteLLMProxy(tmp_path_factory.mktemp("litellm"), running_emulator)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def calm_proxy(tmp_path_factory: pytest.TempPathFactory, running_emulator: RunningEmulator) -> Iterator[LiteLLMProxy]:
    """Return a proxy with retries disabled in both settings."""
    proxy = LiteLLMProxy(tmp_path_factory.mktemp("litellm-calm"), running_emulator, retries=0)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def hook(proxy: LiteLLMProxy, connect: Connect) -> ImageGenHook:
    return connect(proxy.base_url, proxy.token, gateway="openai")


class TestInFrontOfOpenAI:
    def test_it_generates(self, hook: ImageGenHook, emulator: RunningEmulator) -> None:
        (output,) = hook.generate(prompt=PROMPT, model=OPENAI, size="1024x1024")
        assert output.content is not None
        assert output.content.startswith(b"\x89PNG")
        assert emulator.totals()["submits"] == 1

    def test_it_edits(self, hook: ImageGenHook, emulator: RunningEmulator, image: bytes) -> None:
        (output,) = hook.edit(images=[image], prompt=PROMPT, model=OPENAI)
        assert output.content is not None
        assert emulator.totals()["edits"] == 1

    def test_four_images_arrive(self, hook: ImageGenHook, emulator: RunningEmulator) -> None:
        assert len(hook.generate(prompt=PROMPT, model=OPENAI, n=4)) == 4
        assert emulator.totals()["billed_images"] == 4

    def test_a_blocked_prompt_loses_its_code_and_stays_a_refusal(
        self, hook: ImageGenHook, emulator: RunningEmulator
    ) -> None:
        with pytest.raises(RequestRefused, match="rejected by the safety system") as caught:
            hook.generate(prompt="[[moderation]]", model=OPENAI)
        assert caught.value.billed == "no"
        assert emulator.totals()["submits"] == 1
        assert emulator.totals()["billed_images"] == 0

    def test_a_429_loses_its_retry_after(
        self, hook: ImageGenHook, proxy: LiteLLMProxy, emulator: RunningEmulator
    ) -> None:
        emulator.arm("submit", "refuse", code="rate_limited", retry_after=1.0, times=None)
        before = proxy.submits()
        with pytest.raises(RateLimited) as caught:
            hook.generate(prompt=PROMPT, model=OPENAI)
        assert caught.value.retry_after is None
        assert caught.value.billed == "no"
        assert proxy.submits() - before == 1
        assert emulator.totals()["billed_images"] == 0


class TestWhatItsRetriesCost:
    """The gateway draws and bills every time, and its response is a 500."""

    @pytest.fixture(autouse=True)
    def gateway_that_bills_and_fails(self, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "error", status=500, accept=True, times=None)

    def test_by_default_one_call_of_ours_is_paid_nine_times(
        self, hook: ImageGenHook, proxy: LiteLLMProxy, emulator: RunningEmulator
    ) -> None:
        before = proxy.submits()
        with pytest.raises(OutcomeUnknown) as caught:
            hook.generate(prompt=PROMPT, model=OPENAI)
        assert caught.value.billed == "unknown"
        assert proxy.submits() - before == 1
        assert emulator.totals()["billed_images"] == 9

    def test_a_header_of_the_connection_brings_it_down_to_three(
        self, proxy: LiteLLMProxy, connect: Connect, emulator: RunningEmulator
    ) -> None:
        headers = {"x-litellm-num-retries": "0"}
        hook = connect(proxy.base_url, proxy.token, gateway="openai", headers=headers)
        with pytest.raises(OutcomeUnknown):
            hook.generate(prompt=PROMPT, model=OPENAI)
        assert emulator.totals()["billed_images"] == 3

    def test_its_own_configuration_brings_it_down_to_three_too_and_no_further(
        self, calm_proxy: LiteLLMProxy, connect: Connect, emulator: RunningEmulator
    ) -> None:
        hook = connect(calm_proxy.base_url, calm_proxy.token, gateway="openai")
        with pytest.raises(OutcomeUnknown):
            hook.generate(prompt=PROMPT, model=OPENAI)
        assert emulator.totals()["billed_images"] == 3


class TestStreaming:
    """It cannot stream images, and notices only once each is drawn."""

    def test_by_default_three_are_paid_and_none_arrives(self, hook: ImageGenHook, emulator: RunningEmulator) -> None:
        with pytest.raises(OutcomeUnknown) as caught:
            hook.generate(prompt=PROMPT, model=OPENAI, stream=True)
        assert caught.value.billed == "unknown"
        assert emulator.totals()["billed_images"] == 3

    def test_without_retries_one_is_paid(
        self, calm_proxy: LiteLLMProxy, connect: Connect, emulator: RunningEmulator
    ) -> None:
        hook = connect(calm_proxy.base_url, calm_proxy.token, gateway="openai")
        with pytest.raises(OutcomeUnknown):
            hook.generate(prompt=PROMPT, model=OPENAI, stream=True)
        assert emulator.totals()["billed_images"] == 1


class TestInFrontOfTasks:
    """Ace Data Cloud answers with a task id; LiteLLM makes that a response without images, with status 200."""

    @pytest.fixture
    def hook(self, proxy: LiteLLMProxy, connect: Connect) -> ImageGenHook:
        return connect(proxy.base_url, proxy.token, gateway="acedatacloud", submit_path=SUBMIT_PATH)

    def test_the_error_says_who_dropped_the_task_id(self, hook: ImageGenHook, emulator: RunningEmulator) -> None:
        with pytest.raises(OutcomeUnknown, match="LiteLLM proxy stands in between; it drops task ids") as caught:
            hook.generate(prompt=PROMPT, model=ACE)
        assert caught.value.billed == "unknown"
        assert emulator.totals()["submits"] == 1
        assert emulator.totals()["billed_images"] == 1

    def test_a_submit_says_so_too(self, hook: ImageGenHook, emulator: RunningEmulator) -> None:
        with pytest.raises(OutcomeUnknown, match="LiteLLM proxy"):
            hook.submit(prompt=PROMPT, model=ACE)
        assert emulator.totals()["submits"] == 1

    def test_what_was_paid_is_found_again_by_the_trace_id_of_the_error(
        self, hook: ImageGenHook, emulator: RunningEmulator
    ) -> None:
        with pytest.raises(OutcomeUnknown) as caught:
            hook.submit(prompt=PROMPT, model=ACE)
        assert caught.value.trace_id is not None
        assert at_the_gateway_itself(emulator, caught.value.trace_id).state == "succeeded"

    def test_returns_the_image_in_the_response_on_request(self, hook: ImageGenHook, emulator: RunningEmulator) -> None:
        (output,) = hook.generate(prompt=PROMPT, model=ACE, async_=False)
        assert output.url is not None
        assert output.url.startswith(emulator.base_url)
        assert emulator.totals()["billed_images"] == 1


class TestPassThrough:
    """Below ``/openai`` it hands requests on almost as they are: tasks come through, and nothing is repeated."""

    @pytest.fixture
    def hook(self, proxy: LiteLLMProxy, connect: Connect) -> ImageGenHook:
        return connect(proxy.base_url, proxy.token, gateway="acedatacloud")

    def test_tasks_are_submitted_and_looked_up(self, hook: ImageGenHook, emulator: RunningEmulator) -> None:
        ids = [hook.submit(prompt=f"{PROMPT}, no. {number}", model="gpt-image-1").task_id for number in range(2)]
        tasks = hook.get_tasks([task_id for task_id in ids if task_id])
        assert list(tasks) == ids
        assert {task.state for task in tasks.values()} == {"succeeded"}
        assert emulator.totals()["billed_images"] == 2

    def test_a_lookup_of_one_task_loses_the_id(self, proxy: LiteLLMProxy, hook: ImageGenHook) -> None:
        task_id = hook.submit(prompt=PROMPT, model="gpt-image-1").task_id
        headers = {"authorization": f"Bearer {proxy.token}"}
        one, batch = (
            httpx.post(f"{proxy.base_url}/openai/tasks", json=body, headers=headers, trust_env=False, timeout=HANG)
            for body in ({"action": "retrieve", "id": task_id}, {"action": "retrieve_batch", "ids": [task_id]})
        )
        assert one.json() == {}
        assert [record["id"] for record in batch.json()["items"]] == [task_id]

    def test_a_paid_call_is_not_repeated(self, hook: ImageGenHook, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "error", status=500, accept=True, times=None)
        with pytest.raises(OutcomeUnknown):
            hook.submit(prompt=PROMPT, model="gpt-image-1")
        assert emulator.totals()["submits"] == 1


def at_the_gateway_itself(emulator: RunningEmulator, trace_id: str) -> ImageTask:
    """Look a task up without the proxy."""
    settings = GatewaySettings(base_url=emulator.base_url, token=emulator.token, gateway="acedatacloud")

    async def look_up() -> ImageTask:
        async with ImageClient(settings) as client:
            return (await client.look_up([trace_id], by="trace_id"))[trace_id]

    return asyncio.run(look_up())
