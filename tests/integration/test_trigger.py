"""The trigger polls and fires one event, which contains only ids and a status."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from airflow_provider_imagegen.schemas import OpenTask, Submission
from airflow_provider_imagegen.triggers.imagegen import ImageTasksTrigger
from tests.integration.conftest import set_connection
from tests.stack.waiting import HANG, wait_until

pytestmark = pytest.mark.usefixtures("connections")


async def submission(deadline_in: float = HANG, count: int = 1) -> dict[str, Any]:
    hook = ImageGenHook()
    now = time.time()
    tasks = [await hook.asubmit(prompt=f"kite {number}", model="gpt-image-1") for number in range(count)]
    opened = [
        OpenTask(index=i, count=1, task_id=task.task_id or "", scope="s", fingerprint="f", generation=1)
        for i, task in enumerate(tasks)
    ]
    return Submission(submitted_at=now, deadline=now + deadline_in, open=tuple(opened)).model_dump(mode="json")


def trigger(submitted: dict[str, Any], **changes: Any) -> ImageTasksTrigger:
    arguments = {"imagegen_conn_id": "imagegen_default", "not_before": 0.0, "poll_interval": 0.1}
    return ImageTasksTrigger(submission=submitted, **(arguments | changes))


class TestEvent:
    async def test_comes_when_every_task_is_done(self) -> None:
        submitted = await submission(count=3)
        event = await anext(trigger(submitted).run())
        assert event.payload == {"version": 1, "status": "done", "submission": submitted}

    async def test_holds_no_prompt_and_no_address(self) -> None:
        event = await anext(trigger(await submission()).run())
        assert "kite" not in json.dumps(event.payload)
        assert "http" not in json.dumps(event.payload)

    async def test_says_timeout_at_the_deadline(self, emulator: RunningEmulator) -> None:
        emulator.hold()
        event = await anext(trigger(await submission(deadline_in=0.3)).run())
        assert event.payload["status"] == "timeout"

    async def test_does_not_come_before_its_time(self) -> None:
        moment = time.time() + 0.6
        await anext(trigger(await submission(), not_before=moment).run())
        assert time.time() >= moment

    async def test_rides_out_lookups_that_fail(self, emulator: RunningEmulator) -> None:
        submitted = await submission()
        emulator.arm("lookup", "refuse", times=2)
        event = await anext(trigger(submitted).run())
        assert event.payload["status"] == "done"

    async def test_says_failed_when_the_token_is_refused_twice(
        self, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        submitted = await submission()
        set_connection(
            monkeypatch,
            "imagegen_default",
            conn_type="imagegen",
            host=emulator.base_url,
            password="stale",
            extra={"gateway": "acedatacloud"},
        )
        event = await anext(trigger(submitted).run())
        assert event.payload["status"] == "failed"

    async def test_says_failed_when_the_connection_is_gone(self) -> None:
        event = await anext(trigger(await submission(), imagegen_conn_id="gone").run())
        assert event.payload["status"] == "failed"


class TestManyTriggers:
    async def test_share_their_lookups(self, emulator: RunningEmulator) -> None:
        emulator.hold()
        submissions = [await submission() for _ in range(40)]
        waits = asyncio.gather(*(anext(trigger(each, poll_interval=0.5).run()) for each in submissions))
        await asyncio.to_thread(wait_until, lambda: emulator.totals()["lookups"] >= 120, what="three lookups of each")
        emulator.release()
        events = await waits
        assert [event.payload for event in events] == [
            {"version": 1, "status": "done", "submission": each} for each in submissions
        ]
        totals = emulator.totals()
        assert totals["lookup_requests"] <= totals["lookups"] / 8

    async def test_survive_one_that_is_cancelled(self, emulator: RunningEmulator) -> None:
        emulator.hold()
        first, second = [asyncio.ensure_future(anext(trigger(await submission()).run())) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        emulator.release()
        assert (await second).payload["status"] == "done"


class TestArguments:
    async def test_rebuild_the_same_trigger(self) -> None:
        first = trigger(await submission(), hold={"bucket": "b"})
        path, arguments = first.serialize()
        assert path == "airflow_provider_imagegen.triggers.imagegen.ImageTasksTrigger"
        assert ImageTasksTrigger(**json.loads(json.dumps(arguments))).serialize() == first.serialize()

    async def test_unknown_ones_are_ignored(self) -> None:
        event = await anext(trigger(await submission(), from_the_future=1).run())
        assert event.payload["status"] == "done"

    async def test_hold_no_secret(self, emulator: RunningEmulator) -> None:
        assert emulator.token not in json.dumps(trigger(await submission()).serialize())
