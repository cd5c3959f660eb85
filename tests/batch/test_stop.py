"""A worker that is told to stop: nothing more is sent, what was sent lands, and the next try does the rest."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_imagegen.engine.batch.run import BatchRun
from airflow_provider_imagegen.engine.run import TaskRun
from airflow_provider_imagegen.engine.stop import StopRequest
from airflow_provider_imagegen.exceptions import (
    ImageGenError,
    IncompleteBatch,
    PartialDelivery,
    PermanentError,
    TaskStopped,
    UploadFailed,
)
from airflow_provider_imagegen.failpoints import observe
from airflow_provider_imagegen.schemas import Submission
from airflow_provider_imagegen.schemas.batch import BatchSummary
from tests.batch.conftest import BatchHarness, prompts
from tests.batch.test_kill_signal import cancellable
from tests.stack.waiting import wait_until

__all__ = ["cancellable"]

ROWS = 6
WIDTH = 4


def result_of(work: TaskRun, step: Coroutine[Any, Any, Any]) -> Any:
    """Run a step of a try as the operator does, and return its result, or its error."""
    try:
        return asyncio.run(work.options.stop.run(step))
    except ImageGenError as error:
        return error


@contextmanager
def running(work: TaskRun, step: Coroutine[Any, Any, Any] | None = None) -> Iterator[list[Any]]:
    """Run a try in a thread beside the block; the list then holds its result, or its error."""
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(result_of(work, step or work.begin())))
    thread.start()
    try:
        yield ended
    finally:
        thread.join()


@pytest.fixture
def synchronous(harness: BatchHarness) -> BatchHarness:
    """A harness whose gateway answers with the image, and makes none before it is told to."""
    harness.use("openai", prefix="/openai-api")
    harness.emulator.hold()
    return harness


def wait_for(harness: BatchHarness, in_flight: int) -> None:
    wait_until(lambda: harness.emulator.totals()["in_flight"] == in_flight, what="the submits")


class TestSynchronousGateway:
    @pytest.mark.parametrize("on_partial", ["fail", "accept"])
    def test_what_is_in_flight_lands_and_the_next_try_sends_only_the_rest(
        self, synchronous: BatchHarness, on_partial: str
    ) -> None:
        work = synchronous.batch(prompts(ROWS), max_in_flight=WIDTH, on_partial=on_partial)
        with running(work) as ended:
            wait_for(synchronous, WIDTH)
            work.cancel()
            synchronous.emulator.release()
        (error,) = ended
        assert type(error) is TaskStopped
        assert (error.billed, error.result.landed, error.result.failed) == ("yes", WIDTH, ROWS - WIDTH)
        assert synchronous.submits == synchronous.billed == WIDTH
        summary = synchronous.run(prompts(ROWS), try_number=2)
        assert (summary.landed, summary.billed, synchronous.billed) == (ROWS, ROWS, ROWS)

    def test_rows_that_wait_for_their_turn_are_not_sent(self, synchronous: BatchHarness) -> None:
        work = synchronous.batch(prompts(ROWS), requests_per_minute=0.1)
        with running(work) as ended:
            wait_for(synchronous, 1)
            work.cancel()
            synchronous.emulator.release()
        assert type(ended[0]) is TaskStopped
        assert synchronous.submits == synchronous.billed == 1

    def test_rows_that_were_refused_for_now_are_not_sent_again(self, synchronous: BatchHarness) -> None:
        synchronous.emulator.change(max_in_flight=1)
        work = synchronous.batch(prompts(2), max_in_flight=2)
        with running(work) as ended:
            wait_until(lambda: synchronous.emulator.totals()["refused"] > 0, what="the refusal")
            wait_for(synchronous, 1)
            work.cancel()
            synchronous.emulator.release()
        assert type(ended[0]) is TaskStopped
        assert synchronous.billed == 1
        assert synchronous.run(prompts(2), try_number=2).landed == synchronous.billed == 2

    def test_is_waited_for_no_longer_than_the_grace(self, synchronous: BatchHarness) -> None:
        work = synchronous.batch(prompts(1))
        work = dataclasses.replace(work, options=dataclasses.replace(work.options, stop=StopRequest(0.1)))
        with running(work) as ended:
            wait_for(synchronous, 1)
            work.cancel()
        assert type(ended[0]) is TaskStopped
        assert ended[0].billed == "unknown"
        synchronous.emulator.release()
        with pytest.raises(PartialDelivery, match="unknown"):
            synchronous.run(prompts(1), try_number=2)

    def test_fewer_images_are_not_accepted_because_of_it(self, synchronous: BatchHarness) -> None:
        synchronous.use("openai", prefix="/openai-api", max_in_flight=1)
        work = synchronous.work(n=2, model="dall-e-3", on_partial="accept")
        with running(work) as ended:
            wait_for(synchronous, 1)
            work.cancel()
            synchronous.emulator.release()
        assert isinstance(ended[0], PartialDelivery)
        assert synchronous.billed == 1
        manifest = synchronous.attempt(n=2, model="dall-e-3", try_number=2)
        assert (manifest.delivered, synchronous.billed) == (2, 2)

    @pytest.mark.parametrize("on_partial", ["fail", "accept"])
    def test_rows_that_end_as_they_would_have_anyway_are_not_tried_again(
        self, synchronous: BatchHarness, on_partial: str
    ) -> None:
        work = synchronous.batch([*prompts(1), "gruesome [[moderation]]"], max_in_flight=WIDTH, on_partial=on_partial)
        with running(work) as ended:
            wait_for(synchronous, 2)
            synchronous.emulator.release("gruesome")
            wait_until(lambda: any(entry.record.state == "failed" for entry in synchronous.entries()), what="the end")
            work.cancel()
            synchronous.emulator.release()
        assert type(ended[0]) is (BatchSummary if on_partial == "accept" else IncompleteBatch)

    def test_rows_that_are_left_are_not_accepted_whatever_else_stopped_the_batch(
        self, synchronous: BatchHarness
    ) -> None:
        work = synchronous.batch(prompts(4), on_partial="accept", requests_per_minute=0.1, max_in_flight=2)
        with running(work) as ended:
            wait_for(synchronous, 1)
            wait_until(lambda: len(synchronous.entries()) == 2, what="the claim of a row that waits for its turn")
            work._at_work[0].state.circuit_breaker.blown_by = UploadFailed("20 rows in a row did not arrive")
            work.cancel()
            synchronous.emulator.release()
        assert isinstance(ended[0], ImageGenError)
        assert not isinstance(ended[0], PermanentError)


class TestTaskGateway:
    def test_batch_defers_with_the_rows_that_are_left(
        self, harness: BatchHarness, grace: Callable[[float], None]
    ) -> None:
        harness.emulator.hold()
        work = harness.batch(prompts(ROWS), max_in_flight=WIDTH, deferrable=True)
        with running(work) as ended:
            wait_for(harness, WIDTH)
            work.cancel()
        (submission,) = ended
        assert isinstance(submission, Submission)
        assert len(submission.open) == WIDTH
        assert harness.submits == WIDTH
        harness.emulator.release()
        summary = harness.resume(prompts(ROWS), submission)
        assert (summary.landed, harness.billed) == (ROWS, ROWS)

    def test_batch_that_waits_for_a_slot_keeps_its_place(
        self, harness: BatchHarness, grace: Callable[[float], None]
    ) -> None:
        grace(0.1)
        harness.emulator.change(max_in_flight=1)
        harness.emulator.hold()
        with running(harness.batch(prompts(1, "another"), dag_id="other")):
            wait_for(harness, 1)
            submission = harness.defer(prompts(2))
            assert submission.slot is not None
            work = harness.batch(prompts(2), deferrable=True)
            work.cancel()
            result = result_of(work, work.resume(submission, False))
            harness.emulator.release()
        assert isinstance(result, Submission)
        assert result.slot is not None
        assert result.slot.since == submission.slot.since

    def test_batch_of_which_nothing_runs_defers_too(
        self, harness: BatchHarness, grace: Callable[[float], None]
    ) -> None:
        grace(0.1)
        harness.emulator.hold()
        submission = harness.defer(prompts(ROWS), max_in_flight=2)
        harness.emulator.release()
        work = harness.batch(prompts(ROWS), max_in_flight=2, deferrable=True)
        work.cancel()
        result = result_of(work, work.resume(submission, False))
        assert isinstance(result, Submission)
        while isinstance(result, Submission):
            result = harness.resume(prompts(ROWS), result)
        assert (result.landed, harness.billed) == (ROWS, ROWS)

    def test_cancelled_rows_are_not_accepted_as_missing(self, cancellable: BatchHarness) -> None:
        cancellable.emulator.release()
        assert cancellable.run(prompts(1)).landed == 1
        cancellable.emulator.hold()
        work = cancellable.batch(prompts(3), on_partial="accept", deferrable=True)
        with running(work) as ended:
            wait_until(lambda: len(work.open_tasks()) == 2, what="the submits")
            work.cancel()
        assert type(ended[0]) is TaskStopped
        cancellable.emulator.release()
        assert cancellable.run(prompts(3), try_number=2).landed == cancellable.billed == 3

    def test_receipts_are_not_written_before_all_is_sent(self, harness: BatchHarness) -> None:
        harness.use("acedatacloud", max_in_flight=1)
        harness.emulator.hold()
        work = dataclasses.replace(harness.work(n=2), waits=False)
        with running(work) as ended:
            wait_for(harness, 1)
            work.cancel()
            harness.emulator.release()
        assert type(ended[0]) is TaskStopped
        assert (ended[0].billed, harness.submits) == ("yes", 1)


class TestAtEveryMoment:
    ROWS: list[dict[str, Any]] = [  # noqa: RUF012
        *({"prompt": prompt} for prompt in prompts(3)),
        {"prompt": prompts(1)[0]},
        {"prompt": "twice", "n": 2},
    ]
    """Rows, one of which waits for another that asks for the same."""

    @pytest.mark.full
    @pytest.mark.parametrize(
        ("gateway", "is_deferrable"), [("openai", False), ("acedatacloud", True), ("acedatacloud", False)]
    )
    def test_everything_lands_in_the_end_and_is_paid_for_once(
        self, harness: BatchHarness, grace: Callable[[float], None], gateway: str, is_deferrable: bool
    ) -> None:
        grace(0.05)
        harness.use(gateway, prefix="/openai-api" if gateway == "openai" else "")
        moment, passed = 0, 1
        while passed > moment:
            moment += 1
            another = BatchHarness(harness.emulator, harness.s3, harness.settings)
            billed, submits = another.billed, another.submits
            passed = self._run_to_the_end(another, moment, is_deferrable)
            assert (another.billed - billed, another.submits - submits <= 5) == (5, True)
        assert moment > len(self.ROWS)

    def _run_to_the_end(self, harness: BatchHarness, moment: int, is_deferrable: bool) -> int:
        """Run as many tries as it takes, the first of them stopped; return how many failpoints that one passed."""
        passed = 0
        work = self._try(harness, 1, is_deferrable)

        def stop(*_: object) -> None:
            nonlocal passed
            passed += 1
            if passed == moment:
                work.options.stop.ask()

        end = observe(stop)
        try:
            result = result_of(work, work.begin())
        finally:
            end()
        number = 1
        while not isinstance(result, BatchSummary):
            if isinstance(result, Submission):
                again = self._try(harness, number, is_deferrable)
                result = result_of(again, again.resume(result, False))
                continue
            assert not isinstance(result, PermanentError)
            number += 1
            again = self._try(harness, number, is_deferrable)
            result = result_of(again, again.begin())
        assert (result.landed, result.billed) == (5, 5)
        return passed

    def _try(self, harness: BatchHarness, number: int, is_deferrable: bool) -> BatchRun:
        return harness.batch(self.ROWS, max_in_flight=2, deferrable=is_deferrable, try_number=number)


class TestStopRequest:
    def test_given_twice_is_the_first(self) -> None:
        stop = StopRequest()
        heard: list[int] = []

        async def body() -> None:
            stop.when_asked(lambda: heard.append(1))
            stop.ask()
            stop.ask()
            await asyncio.sleep(0)

        asyncio.run(stop.run(body()))
        assert heard == [1]

    def test_that_came_before_anything_sends_nothing(self, harness: BatchHarness) -> None:
        work = harness.batch(prompts(2))
        work.cancel()
        with running(work) as ended:
            pass
        assert type(ended[0]) is TaskStopped
        assert (ended[0].billed, harness.submits) == ("no", 0)

    def test_does_not_take_a_time_out_of_others_for_its_own(self) -> None:
        async def fail() -> None:
            raise TimeoutError("of a library")

        async def body() -> None:
            await StopRequest(1.0).run(fail())

        with pytest.raises(TimeoutError, match="of a library"):
            asyncio.run(body())

    def test_to_a_task_that_has_ended_is_heard_by_nobody(self) -> None:
        stop = StopRequest()

        async def end() -> int:
            return 1

        async def body() -> int:
            return await stop.run(end())

        assert asyncio.run(body()) == 1
        stop.ask()
        assert stop.is_asked
