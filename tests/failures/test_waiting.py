"""Rows 6 to 13, 27 to 29: failures during waiting."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    ImageGenError,
    TaskTimeout,
    UnknownTask,
    UnreadableResponse,
)
from airflow_provider_imagegen.failpoints import Failpoint
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.polling import PollSchedule, TaskPoller
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask, Manifest, Submission
from airflow_provider_imagegen.triggers.imagegen import ImageTasksTrigger
from tests.failures.conftest import (
    DEADLINE,
    PASSING,
    Harness,
    first_event,
    killed_at,
    released_after_look_ups,
)
from tests.stack.waiting import HANG


def trigger(submission: Submission, **changes: Any) -> ImageTasksTrigger:
    arguments = {"imagegen_conn_id": "imagegen_default", "not_before": 0.0, "poll_interval": 0.1} | changes
    return ImageTasksTrigger(submission=submission.model_dump(mode="json"), **arguments)


@pytest.fixture
def deferred(harness: Harness, short_grace: Any, connections: None) -> Submission:
    """A try that has handed over to the triggerer."""
    short_grace(0.0)
    harness.emulator.hold()
    return harness.submitted()


class TestTriggerRunTwice:
    async def test_reads_only_and_fires_the_same_event(
        self, emulator: RunningEmulator, deferred_async: Submission
    ) -> None:
        first, second = await asyncio.gather(*(first_event(trigger(deferred_async), emulator) for _ in range(2)))
        assert first == second
        assert emulator.totals()["submits"] == 1


@pytest.fixture
async def deferred_async(harness: Harness, short_grace: Any, connections: None) -> Submission:
    short_grace(0.0)
    harness.emulator.hold()
    result = await harness.work(deferrable=True).begin()
    assert isinstance(result, Submission)
    return result


class TestResumedEarly:
    def test_is_still_running_and_defers_again(self, harness: Harness, deferred: Submission) -> None:
        result = asyncio.run(harness.work().resume(deferred, gave_up=False))
        assert result == deferred

    def test_continues_once_it_is_done(self, harness: Harness, deferred: Submission) -> None:
        asyncio.run(first_event(trigger(deferred), harness.emulator))
        result = asyncio.run(harness.work().resume(deferred, gave_up=False))
        assert isinstance(result, Manifest)
        assert harness.is_landed(result)
        assert harness.billed == 1


class TestFailedLookups:
    @pytest.mark.parametrize("kind", ["refuse", "drop", "reset", "error", "html", "truncated", "wrong_types", "empty"])
    def test_are_retried(self, harness: Harness, kind: str) -> None:
        harness.emulator.arm("lookup", kind, times=3)
        assert harness.is_landed(harness.attempt())
        assert harness.billed == 1

    def test_to_the_deadline_name_the_last_cause_and_a_retry_attaches(self, harness: Harness) -> None:
        harness.emulator.arm("lookup", "error", status=503, times=None)
        with pytest.raises(TaskTimeout, match="the last lookup failed") as caught:
            harness.attempt(timeout=DEADLINE)
        assert caught.value.billed == "unknown"
        harness.emulator.disarm()
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1

    def test_that_make_no_sense_are_tolerated_a_limited_number_of_times(self, harness: Harness) -> None:
        harness.emulator.arm("lookup", "html", times=None)
        with pytest.raises(UnreadableResponse) as caught:
            harness.attempt()
        assert len(caught.value.message) < 300
        assert harness.emulator.totals()["lookup_requests"] == PollSchedule().unreadable_limit
        harness.emulator.disarm()
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.billed == 1

    def test_do_not_resume_and_defer_the_task_repeatedly(self, harness: Harness, deferred: Submission) -> None:
        harness.emulator.arm("lookup", "html", times=None)
        event = asyncio.run(first_event(trigger(deferred), harness.emulator))
        assert event["status"] == "failed"
        with pytest.raises(UnreadableResponse):
            asyncio.run(harness.work().resume(deferred, gave_up=True))


class TestTokenRotatedWhileWaiting:
    def test_connection_is_read_again_once(self, harness: Harness, deferred: Submission) -> None:
        harness.emulator.arm("lookup", "refuse", code="invalid_token", status=401, times=1)
        event = asyncio.run(first_event(trigger(deferred), harness.emulator))
        assert event["status"] == "done"

    def test_then_it_is_an_error_and_a_retry_attaches(self, harness: Harness) -> None:
        harness.emulator.arm("lookup", "refuse", code="invalid_token", status=401, times=None)
        with pytest.raises(AuthenticationError, match="billed: unknown"):
            harness.attempt()
        harness.emulator.disarm()
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.billed == 1


class TestConnectionDeletedWhileWaiting:
    def test_is_named_and_nothing_is_said_to_be_unbilled(self, deferred: Submission, connections: None) -> None:
        from types import SimpleNamespace

        from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

        operator = GenerateImageOperator(task_id="t", prompt="p", s3_bucket="b", imagegen_conn_id="deleted", s3_key="k")
        ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1, max_tries=0)
        event = {"status": "failed", "submission": deferred.model_dump(mode="json")}
        with pytest.raises(ImageGenError) as caught:
            operator.execute_complete({"ti": ti}, event)  # type: ignore[typeddict-item,arg-type]
        assert "there is no connection 'deleted'" in str(caught.value)
        assert caught.value.billed == "unknown"
        assert deferred.task_ids[0] in str(caught.value)


class TestTaskNotVisible:
    def test_for_a_while_is_pending(self, harness: Harness) -> None:
        harness.emulator.arm("submit", "invisible", seconds=0.3)
        assert harness.is_landed(harness.attempt())
        assert harness.submits == 1

    def test_for_too_long_is_unknown_and_never_sent_again(self, harness: Harness) -> None:
        harness.use("acedatacloud", visibility_grace=PASSING)
        harness.emulator.arm("submit", "invisible", seconds=3600)
        with pytest.raises(UnknownTask, match="billed: unknown"):
            harness.attempt()
        with pytest.raises(UnknownTask):
            harness.attempt(try_number=2)
        assert harness.submits == 1


class TestPreviewInAPendingRecord:
    def test_is_not_treated_as_the_image(self, harness: Harness) -> None:
        harness.draw()
        harness.emulator.arm("submit", "preview")
        with released_after_look_ups(harness.emulator, 2):
            manifest = harness.attempt()
        (row,) = harness.emulator.ledger()["rows"]
        assert harness.emulator.totals()["lookup_requests"] > 2
        assert harness.is_landed(manifest)
        assert row["downloads"] == 1


class TestDeadline:
    def test_record_stays_and_a_retry_attaches_without_paying(self, harness: Harness) -> None:
        harness.emulator.hold()
        with pytest.raises(TaskTimeout, match="still generating"):
            harness.attempt(timeout=DEADLINE)
        assert harness.emulator.release() == 1
        manifest = harness.attempt(try_number=2)
        assert harness.is_landed(manifest)
        assert harness.submits == harness.billed == manifest.billed == 1

    def test_is_not_missed_by_a_moment(self, harness: Harness) -> None:
        """A task that is done by the deadline is landed, however long the poll interval."""
        work = harness.work(timeout=DEADLINE)
        options = dataclasses.replace(work.options, schedule=PollSchedule(interval=HANG))
        slow_polling = dataclasses.replace(work, options=options)
        with released_after_look_ups(harness.emulator):
            assert isinstance(asyncio.run(slow_polling.begin()), Manifest)
        assert harness.emulator.totals()["lookup_requests"] == 2


class TestClockThatJumps:
    JUMP = 10 * HANG

    async def wait(self, harness: Harness, jump: float, seconds: float) -> ImageTask:
        """Wait for a task on a wall clock that jumps once the waiting has begun."""
        readings = iter([0.0])

        def clock() -> float:
            return time.time() + next(readings, jump)

        async with ImageClient(harness.settings) as client:
            task = await client.submit(ImageRequest(prompt="p", model="gpt-image-1"), "trace")
            assert task.task_id
            now = time.time()
            poller = TaskPoller(client, PollSchedule(interval=0.1), clock)
            seen = await poller.wait([task.task_id], until=now + seconds, submitted_at=now)
        return seen.tasks[task.task_id]

    async def test_does_not_end_the_waiting(self, harness: Harness) -> None:
        with released_after_look_ups(harness.emulator, 2):
            task = await self.wait(harness, self.JUMP, HANG)
        assert task.state == "succeeded"

    async def test_does_not_stretch_the_waiting(self, harness: Harness) -> None:
        harness.emulator.hold()
        task = await self.wait(harness, -self.JUMP, PASSING)
        assert task.state == "running"


class TestUpgradeWhileDeferred:
    async def test_arguments_of_another_version_still_run(self, harness: Harness, deferred_async: Submission) -> None:
        waiting = trigger(deferred_async, version=99, from_the_future={"a": 1})
        assert (await first_event(waiting, harness.emulator))["status"] == "done"


class TestKilledWhileWaiting:
    def test_retry_attaches(self, harness: Harness) -> None:
        with released_after_look_ups(harness.emulator), killed_at(Failpoint.PUT_IMAGE, "before"):
            harness.attempt()
        manifest = harness.attempt(try_number=2)
        assert harness.is_landed(manifest)
        assert harness.submits == 1
