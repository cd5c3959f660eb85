"""The hook against the emulator, blocking and on an event loop."""

from __future__ import annotations

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import AuthenticationError, ConfigurationError, InvalidRequest, TaskTimeout
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from tests.integration.conftest import set_connection

pytestmark = pytest.mark.usefixtures("connections")


class TestBlocking:
    def test_submits_and_waits(self, emulator: RunningEmulator) -> None:
        hook = ImageGenHook()
        submitted = hook.submit(prompt="a red kite", model="gpt-image-1")
        assert submitted.task_id is not None
        assert hook.wait(submitted.task_id, poll_interval=0.1).outputs[0].url is not None
        assert emulator.totals()["submits"] == 1

    def test_looks_up_many_in_one_call(self, emulator: RunningEmulator) -> None:
        hook = ImageGenHook()
        ids = [hook.submit(prompt=f"kite {number}", model="gpt-image-1").task_id for number in range(15)]
        before = emulator.totals()["lookup_requests"]
        tasks = hook.get_tasks([task_id for task_id in ids if task_id])
        assert {task.state for task in tasks.values()} == {"succeeded"}
        assert len(tasks) == 15
        assert emulator.totals()["lookup_requests"] - before == 1

    def test_an_unknown_task_is_unseen(self) -> None:
        assert ImageGenHook().get_task("11111111-2222-3333-4444-555555555555").state == "unseen"

    def test_gives_up_at_the_timeout_and_says_that_it_may_be_billed(self, emulator: RunningEmulator) -> None:
        emulator.hold()
        hook = ImageGenHook()
        task_id = hook.submit(prompt="a red kite", model="gpt-image-1").task_id
        assert task_id is not None
        with pytest.raises(TaskTimeout, match="billed: unknown"):
            hook.wait(task_id, timeout=0.2, poll_interval=0.1)

    def test_refuses_bad_parameters_before_sending(self, emulator: RunningEmulator) -> None:
        with pytest.raises(InvalidRequest, match="n=0"):
            ImageGenHook().submit(prompt="p", n=0)
        assert emulator.totals()["submits"] == 0


class TestOnAnEventLoop:
    async def test_submits_and_waits(self) -> None:
        hook = ImageGenHook()
        submitted = await hook.asubmit(prompt="a red kite", model="gpt-image-1")
        assert submitted.task_id is not None
        assert (await hook.await_task(submitted.task_id, poll_interval=0.1)).state == "succeeded"
        assert (await hook.aget_task(submitted.task_id)).state == "succeeded"

    async def test_a_missing_connection_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match="there is no connection 'nowhere'"):
            await ImageGenHook("nowhere").asubmit(prompt="p")


class TestTestButton:
    def test_proves_url_and_token_for_free(self, emulator: RunningEmulator) -> None:
        assert ImageGenHook().test_connection() == (True, "The gateway answers and accepts the token.")
        assert emulator.totals()["billed_images"] == 0

    def test_names_what_is_wrong(self, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
        set_connection(
            monkeypatch,
            "imagegen_default",
            conn_type="imagegen",
            host=emulator.base_url,
            password="not-the-token",
            extra={"gateway": "acedatacloud"},
        )
        works, words = ImageGenHook().test_connection()
        assert not works
        assert "API token" in words
        with pytest.raises(AuthenticationError):
            ImageGenHook().submit(prompt="p")

    def test_reports_that_the_host_does_not_respond(
        self, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_connection(
            monkeypatch,
            "imagegen_default",
            conn_type="imagegen",
            host="http://127.0.0.1:9",
            password="some-token",
            extra={"gateway": "acedatacloud"},
        )
        works, words = ImageGenHook().test_connection()
        assert not works
        assert "ConnectError" in words
        assert "billed" not in words
