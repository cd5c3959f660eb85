"""A batch that waits in the triggerer: what it hands over, and how it goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_imagegen.batch.summary import BatchSummary
from airflow_provider_imagegen.effects import Effect
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import ImageGenError, InvalidRequest, PartialDelivery
from airflow_provider_imagegen.schemas import Submission
from airflow_provider_imagegen.triggers.imagegen import ImageTasksTrigger
from tests.batch.conftest import BatchLaboratory, prompts
from tests.failures.conftest import DEADLINE, first_event, killed_at

pytestmark = pytest.mark.usefixtures("connections", "no_grace")
ROWS = prompts(12)
PLACES = 5


@pytest.fixture
def no_grace(grace: Callable[[float], None], emulator: RunningEmulator) -> None:
    """Hand over as soon as everything is submitted, while the last rows still run."""
    grace(0.0)


def trigger(submission: Submission) -> ImageTasksTrigger:
    """Return what the triggerer runs."""
    kwargs = json.loads(json.dumps(submission.model_dump(mode="json")))
    return ImageTasksTrigger(imagegen_conn_id="imagegen_default", submission=kwargs, not_before=0.0, poll_interval=0.1)


def fire(laboratory: BatchLaboratory, submission: Submission) -> Any:
    """Do what the triggerer does, while what is held is finished."""
    return asyncio.run(first_event(trigger(submission), laboratory.emulator))


async def only_event(waiting: ImageTasksTrigger) -> Any:
    return (await anext(waiting.run())).payload


@pytest.fixture
def deferred(laboratory: BatchLaboratory) -> Submission:
    """A batch of which all is submitted, and the last five rows are not finished until they are released."""
    laboratory.emulator.hold(after=len(ROWS) - PLACES)
    return laboratory.defer(ROWS, max_in_flight=PLACES)


class TestHandedOver:
    def test_is_only_what_is_open_and_only_its_ids(self, deferred: Submission) -> None:
        assert len(deferred.open) == PLACES
        assert "lighthouse" not in deferred.model_dump_json()

    def test_comes_after_everything_was_submitted(self, laboratory: BatchLaboratory, deferred: Submission) -> None:
        assert laboratory.submits == len(ROWS)

    def test_lands_afterwards_with_the_rest(self, laboratory: BatchLaboratory, deferred: Submission) -> None:
        assert fire(laboratory, deferred)["status"] == "done"
        summary = laboratory.resume(ROWS, deferred)
        assert isinstance(summary, BatchSummary)
        assert (summary.landed, summary.billed) == (12, 12)
        assert (laboratory.submits, laboratory.billed) == (12, 12)
        assert laboratory.statuses() == ["landed"] * 12

    def test_is_handed_over_again_if_woken_too_early(self, laboratory: BatchLaboratory, deferred: Submission) -> None:
        again = laboratory.resume(ROWS, deferred)
        assert isinstance(again, Submission)
        assert (again.submitted_at, again.deadline) == (deferred.submitted_at, deferred.deadline)
        assert set(again.task_ids) == set(deferred.task_ids)
        fire(laboratory, again)
        assert laboratory.resume(ROWS, again).landed == 12

    def test_ends_with_an_error_if_nobody_can_look(self, laboratory: BatchLaboratory, deferred: Submission) -> None:
        laboratory.emulator.arm("lookup", "html", times=None)
        with pytest.raises(ImageGenError) as caught:
            laboratory.resume(ROWS, deferred, gave_up=True)
        assert caught.value.billed == "unknown"

    def test_ends_at_the_deadline(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.hold()
        submission = laboratory.defer(ROWS[:3], timeout=DEADLINE)
        assert asyncio.run(only_event(trigger(submission)))["status"] == "timeout"
        with pytest.raises(PartialDelivery):
            laboratory.resume(ROWS[:3], submission)
        assert laboratory.statuses() == ["unknown"] * 3


class TestFailedBeforeTheDeferral:
    def test_stays_failed_and_is_not_sent_again(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.hold()
        laboratory.emulator.arm("submit", "refuse", code="bad_request", status=400, prompt="number 3", times=1)
        submission = laboratory.defer(ROWS, on_partial="accept", max_in_flight=len(ROWS))
        assert len(submission.open) == len(ROWS) - 1
        fire(laboratory, submission)
        summary = laboratory.resume(ROWS, submission, on_partial="accept")
        assert (summary.landed, summary.failed, laboratory.submits) == (11, 1, 12)
        assert laboratory.statuses()[3] == "failed"


class TestEqualRows:
    def test_wait_for_their_leader_beyond_the_deferral(self, laboratory: BatchLaboratory) -> None:
        laboratory.emulator.hold()
        rows = [{"prompt": "a kite", "key": f"k{number}"} for number in range(6)]
        submission = laboratory.defer(rows)
        assert len(submission.open) == 1
        fire(laboratory, submission)
        summary = laboratory.resume(rows, submission)
        assert (summary.landed, summary.billed, summary.reused) == (6, 1, 5)
        assert laboratory.billed == 1


class TestRowsChangedMeanwhile:
    def test_are_an_error_that_says_so(self, laboratory: BatchLaboratory, deferred: Submission) -> None:
        with pytest.raises(InvalidRequest, match="the same rows as when the batch began"):
            laboratory.resume([*ROWS[:-1], "something else"], deferred)

    def test_retry_goes_on_with_the_new_ones(self, laboratory: BatchLaboratory, deferred: Submission) -> None:
        fire(laboratory, deferred)
        summary = laboratory.run([*ROWS[:-1], "something else"], try_number=2)
        assert (summary.landed, laboratory.submits) == (12, 13)


class TestKilledAroundTheDeferral:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_retry_attaches(self, laboratory: BatchLaboratory, moment: Any) -> None:
        laboratory.emulator.hold()
        with killed_at(Effect.PUT_CHECKPOINT, moment):
            laboratory.defer(ROWS, max_in_flight=len(ROWS))
        assert laboratory.emulator.release() == len(ROWS)
        summary = laboratory.run(ROWS, try_number=2)
        assert (summary.landed, laboratory.submits, laboratory.billed) == (12, 12, 12)

    def test_resumed_and_killed_is_settled_by_the_retry(
        self, laboratory: BatchLaboratory, deferred: Submission
    ) -> None:
        fire(laboratory, deferred)
        with killed_at(Effect.PUT_IMAGE, "after", 1):
            laboratory.resume(ROWS, deferred)
        summary = laboratory.run(ROWS, try_number=2)
        assert (summary.landed, laboratory.submits, laboratory.billed) == (12, 12, 12)


class TestCheckpoint:
    def test_is_no_record_of_the_ledger(self, laboratory: BatchLaboratory, deferred: Submission) -> None:
        assert laboratory.batch(ROWS).checkpoint.uri.endswith("/batch.1.jsonl")
        assert len([entry for entry in laboratory.entries() if entry.record.fingerprint]) == len(ROWS)
