"""A worker that is told to stop: nothing more is sent, what was sent lands, and the next try does the rest."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_imagegen.engine.run import TaskRun
from airflow_provider_imagegen.engine.stop import StopRequest
from airflow_provider_imagegen.exceptions import ImageGenError, PartialDelivery, TaskStopped
from airflow_provider_imagegen.schemas import Submission
from tests.batch.conftest import BatchHarness, prompts
from tests.stack.waiting import wait_until

ROWS = 6
WIDTH = 4


@contextmanager
def running(work: TaskRun) -> Iterator[list[Any]]:
    """Run a try in a thread beside the block; the list then holds its result, or its error."""
    ended: list[Any] = []

    async def begin() -> Any:
        return await work.options.stop.run(work.begin())

    def run() -> None:
        try:
            ended.append(asyncio.run(begin()))
        except ImageGenError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
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


class TestStopRequest:
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
