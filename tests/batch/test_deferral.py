"""A batch that is deferred: its checkpoint, and how it continues."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.engine.batch.limits import LOST_IN_A_ROW
from airflow_provider_imagegen.exceptions import (
    ImageGenError,
    InvalidRequest,
    OutOfBalance,
    PartialDelivery,
    UploadFailed,
)
from airflow_provider_imagegen.failpoints import Failpoint
from airflow_provider_imagegen.schemas import Submission
from airflow_provider_imagegen.schemas.batch import BatchSummary
from airflow_provider_imagegen.triggers.imagegen import ImageSlotTrigger, ImageTasksTrigger
from tests.batch.conftest import BatchHarness, prompts
from tests.failures.conftest import DEADLINE, first_event, killed_at
from tests.stack.waiting import HANG

pytestmark = pytest.mark.usefixtures("connections", "no_grace")
ROWS = prompts(12)
PLACES = 5


@pytest.fixture
def no_grace(grace: Callable[[float], None], emulator: RunningEmulator) -> None:
    """Hand over as soon as there is nothing to submit and no slot."""
    grace(0.0)


def trigger(submission: Submission) -> ImageTasksTrigger:
    """Return what the triggerer runs."""
    kwargs = json.loads(json.dumps(submission.model_dump(mode="json")))
    kind = ImageSlotTrigger if submission.slot else ImageTasksTrigger
    return kind(imagegen_conn_id="imagegen_default", submission=kwargs, not_before=0.0, poll_interval=0.1)


def fire(harness: BatchHarness, submission: Submission) -> Any:
    """Do what the triggerer does, while what is held is finished."""
    return asyncio.run(first_event(trigger(submission), harness.emulator))


async def only_event(waiting: ImageTasksTrigger) -> Any:
    return (await anext(waiting.run())).payload


@pytest.fixture
def deferred(harness: BatchHarness) -> Submission:
    """A batch of which all is submitted, and the last five rows are not finished until they are released."""
    harness.emulator.hold(after=len(ROWS) - PLACES)
    submission = harness.defer(ROWS, max_in_flight=PLACES)
    return with_submits(len(ROWS), harness, ROWS, submission, max_in_flight=PLACES)


def with_submits(number: int, harness: BatchHarness, rows: Any, submission: Submission, **ask: Any) -> Submission:
    """Go on with a batch, without finishing what is held, until so many rows were submitted and it defers again."""
    while harness.submits < number:
        submission = harness.resume(rows, submission, **ask)
    return submission


def to_the_end(harness: BatchHarness, rows: Any, result: Any, *, finishing: bool = True, **ask: Any) -> BatchSummary:
    """Go on with a batch until it ends; what it submits is finished only when a triggerer waits for it, or never."""
    while isinstance(result, Submission):
        if finishing:
            fire(harness, result)
            harness.emulator.hold()
        else:
            asyncio.run(only_event(trigger(result)))
        result = harness.resume(rows, result, **ask)
    assert isinstance(result, BatchSummary)
    return result


class TestDeferred:
    def test_is_only_what_is_open_and_only_its_ids(self, deferred: Submission) -> None:
        assert len(deferred.open) == PLACES
        assert "lighthouse" not in deferred.model_dump_json()

    def test_comes_after_everything_was_submitted(self, harness: BatchHarness, deferred: Submission) -> None:
        assert harness.submits == len(ROWS)

    def test_lands_afterwards_with_the_rest(self, harness: BatchHarness, deferred: Submission) -> None:
        assert fire(harness, deferred)["status"] == "done"
        summary = harness.resume(ROWS, deferred)
        assert isinstance(summary, BatchSummary)
        assert (summary.landed, summary.billed) == (12, 12)
        assert (harness.submits, harness.billed) == (12, 12)
        assert harness.statuses() == ["landed"] * 12

    def test_is_handed_over_again_if_woken_too_early(self, harness: BatchHarness, deferred: Submission) -> None:
        again = harness.resume(ROWS, deferred)
        assert isinstance(again, Submission)
        assert (again.submitted_at, again.deadline) == (deferred.submitted_at, deferred.deadline)
        assert set(again.task_ids) == set(deferred.task_ids)
        fire(harness, again)
        assert harness.resume(ROWS, again).landed == 12

    def test_ends_with_an_error_without_a_triggerer(self, harness: BatchHarness, deferred: Submission) -> None:
        harness.emulator.arm("lookup", "html", times=None)
        with pytest.raises(ImageGenError) as caught:
            harness.resume(ROWS, deferred, gave_up=True)
        assert caught.value.billed == "unknown"

    def test_ends_at_the_deadline(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        submission = harness.defer(ROWS[:3], timeout=DEADLINE)
        assert asyncio.run(only_event(trigger(submission)))["status"] == "timeout"
        with pytest.raises(PartialDelivery):
            harness.resume(ROWS[:3], submission)
        assert harness.statuses() == ["unknown"] * 3


class TestWithRowsLeft:
    """A batch with more rows than slots gives its worker back while all slots are taken."""

    def test_goes_on_when_half_of_the_slots_are_free(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        submission = harness.defer(ROWS, max_in_flight=4)
        assert (len(submission.open), submission.left_open, harness.submits) == (4, 2, 4)
        harness.emulator.release("number 0")
        harness.emulator.hold()
        harness.emulator.release("number 1")
        harness.emulator.hold()
        assert asyncio.run(only_event(trigger(submission)))["status"] == "done"
        again = harness.resume(ROWS, submission, max_in_flight=4)
        assert (len(again.open), harness.submits) == (4, 6)
        assert set(submission.task_ids) & set(again.task_ids) == set(submission.task_ids[2:])

    def test_lands_every_row_once_with_no_more_at_once_than_allowed(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        summary = to_the_end(harness, ROWS, harness.defer(ROWS, max_in_flight=4), max_in_flight=4)
        assert (summary.landed, summary.billed, harness.submits, harness.billed) == (12, 12, 12, 12)
        assert harness.emulator.totals()["peak_in_flight"] <= 4

    def test_sends_nothing_more_after_the_deadline(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        submission = harness.defer(ROWS, max_in_flight=4, timeout=DEADLINE)
        assert asyncio.run(only_event(trigger(submission)))["status"] == "timeout"
        with pytest.raises(PartialDelivery):
            harness.resume(ROWS, submission, max_in_flight=4, timeout=DEADLINE)
        assert harness.statuses() == ["unknown"] * 4 + ["failed"] * 8
        assert harness.submits == 4

    def test_stops_where_images_do_not_arrive_one_after_the_other(self, harness: BatchHarness) -> None:
        """Of every worker only a few rows fail, fewer than it takes to stop one."""
        rows, places = prompts(60), 3
        harness.emulator.arm("result", "html", times=None)
        with pytest.raises(UploadFailed, match="in a row were paid for and did not arrive"):
            to_the_end(harness, rows, harness.defer(rows, max_in_flight=places), max_in_flight=places)
        # What was sent before the first of the last three was seen to fail, too.
        assert harness.billed <= LOST_IN_A_ROW + 3 * places
        harness.emulator.disarm()
        summary = harness.run(rows, try_number=2)
        assert (summary.landed, harness.billed) == (60, 60)

    def test_knows_why_it_stopped(self, harness: BatchHarness) -> None:
        # None of the three before it ends and leaves its slot to another row before this one is refused.
        harness.emulator.hold()
        harness.emulator.arm("submit", "refuse", code="used_up", status=403, prompt="number 3", times=1)
        submission = harness.defer(ROWS, max_in_flight=4)
        with pytest.raises(OutOfBalance):
            to_the_end(harness, ROWS, submission, max_in_flight=4)
        assert harness.statuses() == ["landed"] * 3 + ["failed"] * 9

    def test_says_what_may_be_billed_when_it_cannot_go_on(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        submission = harness.defer(ROWS, max_in_flight=4)
        with pytest.raises(InvalidRequest) as caught:
            harness.resume([*ROWS[:-1], "something else"], submission, max_in_flight=4)
        assert caught.value.billed == "yes"

    @pytest.mark.parametrize("point", [Failpoint.PUT_CHECKPOINT, Failpoint.SUBMIT, Failpoint.PUT_IMAGE])
    @pytest.mark.parametrize("moment", [pytest.param("before", marks=pytest.mark.full), "after"])
    def test_killed_on_the_way_is_settled_by_the_retry(self, harness: BatchHarness, point: Any, moment: Any) -> None:
        harness.emulator.hold()
        submission = harness.defer(ROWS, max_in_flight=4)
        with killed_at(point, moment):
            to_the_end(harness, ROWS, submission, max_in_flight=4)
        harness.emulator.release()
        harness.emulator.wait_until_idle()
        harness.age_claims()
        summary = harness.run(ROWS, try_number=2)
        assert (summary.landed, harness.submits, harness.billed) == (12, 12, 12)


class TestGatewayThatAllowsFewer:
    """The token allows fewer requests than the connection says, or others use it too."""

    @pytest.fixture(autouse=True)
    def _allows_two(self, harness: BatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        harness.emulator.change(max_in_flight=2)
        monkeypatch.setattr("airflow_provider_imagegen.engine.batch.run.SLOT_GRACE", 0.1)
        monkeypatch.setattr("airflow_provider_imagegen.polling.slots.FIRST_PAUSE", 0.1)

    def test_has_the_batch_wait_deferred_until_slots_are_free(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        submission = harness.defer(ROWS, max_in_flight=4)
        assert submission.slot is not None
        assert len(submission.open) == harness.emulator.totals()["in_flight"] == 2
        summary = to_the_end(harness, ROWS, submission, max_in_flight=4)
        assert (summary.landed, summary.billed, harness.billed) == (12, 12, 12)

    def test_bills_nothing_for_what_it_never_accepted(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        submission = harness.defer(ROWS[:4], max_in_flight=4, timeout=DEADLINE)
        with pytest.raises(PartialDelivery):
            to_the_end(harness, ROWS[:4], submission, finishing=False, max_in_flight=4, timeout=DEADLINE)
        assert sorted(harness.statuses()) == ["failed", "failed", "unknown", "unknown"]

    def test_lands_what_was_accepted_of_a_row_though_the_rest_is_never_sent(self, harness: BatchHarness) -> None:
        harness.emulator.change(max_in_flight=1)
        harness.emulator.hold()
        rows = [{"prompt": "an owl", "n": 2}]
        submission = harness.defer(rows, max_in_flight=2)
        assert (len(submission.open), submission.slot is not None) == (1, True)
        harness.emulator.release()
        # As after the deadline of a batch whose trigger came late.
        with pytest.raises(PartialDelivery):
            harness.resume(rows, submission, max_in_flight=2, timeout=0.0)
        (line,) = harness.lines()
        assert (len(line["images"]), line["billed"], harness.billed) == (1, 1, 1)

    def test_lands_a_row_whose_calls_were_accepted_one_after_the_other(self, harness: BatchHarness) -> None:
        harness.emulator.change(max_in_flight=1)
        harness.emulator.hold()
        rows = [{"prompt": "an owl", "n": 2}, "a kite"]
        summary = to_the_end(harness, rows, harness.defer(rows, max_in_flight=3), max_in_flight=3)
        assert (summary.landed, summary.billed, harness.billed) == (2, 3, 3)

    def test_asks_again_with_one_row_at_a_time(self, harness: BatchHarness, grace: Callable[[float], None]) -> None:
        grace(3.0)
        harness.emulator.hold()
        harness.defer(prompts(20), max_in_flight=20)
        # Each of them once, with a retry, and then one of them every half second or less often.
        assert harness.emulator.totals()["refused"] <= 2 * 18 + 2 * 6

    def test_goes_on_with_the_others_when_one_row_is_asked_to_wait(
        self, harness: BatchHarness, grace: Callable[[float], None]
    ) -> None:
        grace(HANG)
        harness.emulator.change(max_in_flight=None)
        harness.emulator.arm(
            "submit", "refuse", code="rate_limited", status=429, retry_after=1, prompt="number 0", times=1
        )
        summary = asyncio.run(harness.batch(ROWS, deferrable=True, max_in_flight=3).begin())
        assert isinstance(summary, BatchSummary)
        assert summary.landed == 12

    def test_is_begun_again_by_a_retry(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        with killed_at(Failpoint.PUT_CHECKPOINT, "after"):
            harness.defer(ROWS, max_in_flight=4)
        harness.emulator.release()
        summary = harness.run(ROWS, try_number=2)
        assert (summary.landed, harness.billed) == (12, 12)

    def test_is_waited_for_on_the_worker_without_a_triggerer(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        submission = harness.defer(ROWS, max_in_flight=4)
        harness.emulator.release()
        result = harness.resume(ROWS, submission, gave_up=True, max_in_flight=4)
        assert to_the_end(harness, ROWS, result, max_in_flight=4).landed == 12


class TestFailedBeforeTheDeferral:
    def test_stays_failed_and_is_not_sent_again(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        harness.emulator.arm("submit", "refuse", code="bad_request", status=400, prompt="number 3", times=1)
        submission = harness.defer(ROWS, on_partial="accept", max_in_flight=len(ROWS))
        assert len(submission.open) == len(ROWS) - 1
        fire(harness, submission)
        summary = harness.resume(ROWS, submission, on_partial="accept")
        assert (summary.landed, summary.failed, harness.submits) == (11, 1, 12)
        assert harness.statuses()[3] == "failed"


class TestDuplicates:
    def test_wait_for_their_leader_beyond_the_deferral(self, harness: BatchHarness) -> None:
        harness.emulator.hold()
        rows = [{"prompt": "a kite", "key": f"k{number}"} for number in range(6)]
        submission = harness.defer(rows)
        assert len(submission.open) == 1
        fire(harness, submission)
        summary = harness.resume(rows, submission)
        assert (summary.landed, summary.billed, summary.reused) == (6, 1, 5)
        assert harness.billed == 1

    def test_are_landed_before_the_deferral_if_their_leader_is(self, harness: BatchHarness) -> None:
        harness.emulator.hold(after=1)
        rows = [{"prompt": "a kite", "key": "k0"}, {"prompt": "an owl", "key": "o"}, {"prompt": "a kite", "key": "k1"}]
        submission = with_submits(2, harness, rows, harness.defer(rows, max_in_flight=1), max_in_flight=1)
        assert (len(submission.open), harness.names()) == (1, ["k0.png", "k1.png"])
        fire(harness, submission)
        summary = harness.resume(rows, submission)
        assert (summary.landed, summary.billed, harness.billed) == (3, 2, 2)

    def test_of_a_leader_that_failed_late_begin_with_the_next_worker(self, harness: BatchHarness) -> None:
        """Begun in this worker, the duplicate would be a third request at a gateway that allows two."""
        harness.emulator.hold(prompt="kite")
        harness.emulator.arm("submit", "fail", code="api_error", prompt="an owl", times=1)
        prompts = {"leader": "an owl", "one": "a kite", "two": "another kite", "duplicate": "an owl"}
        rows = [{"prompt": prompt, "key": key} for key, prompt in prompts.items()]
        ask: Any = {"max_in_flight": 2, "on_partial": "accept"}
        submission = with_submits(3, harness, rows, harness.defer(rows, **ask), **ask)
        assert (len(submission.open), harness.submits) == (2, 3)
        result = to_the_end(harness, rows, submission, **ask)
        assert (result.landed, result.failed, harness.submits, harness.billed) == (3, 1, 4, 3)


class TestRowsChangedMeanwhile:
    def test_are_an_error_that_says_so(self, harness: BatchHarness, deferred: Submission) -> None:
        with pytest.raises(InvalidRequest, match="the same rows as when the batch began"):
            harness.resume([*ROWS[:-1], "something else"], deferred)

    def test_retry_continues_with_the_new_ones(self, harness: BatchHarness, deferred: Submission) -> None:
        fire(harness, deferred)
        summary = harness.run([*ROWS[:-1], "something else"], try_number=2)
        assert (summary.landed, harness.submits) == (12, 13)


class TestKilledAroundTheDeferral:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_retry_attaches(self, harness: BatchHarness, moment: Any) -> None:
        harness.emulator.hold()
        with killed_at(Failpoint.PUT_CHECKPOINT, moment):
            harness.defer(ROWS, max_in_flight=len(ROWS))
        assert harness.emulator.release() == len(ROWS)
        summary = harness.run(ROWS, try_number=2)
        assert (summary.landed, harness.submits, harness.billed) == (12, 12, 12)

    def test_resumed_and_killed_is_settled_by_the_retry(self, harness: BatchHarness, deferred: Submission) -> None:
        fire(harness, deferred)
        with killed_at(Failpoint.PUT_IMAGE, "after", 1):
            harness.resume(ROWS, deferred)
        summary = harness.run(ROWS, try_number=2)
        assert (summary.landed, harness.submits, harness.billed) == (12, 12, 12)


class TestCheckpoint:
    def test_is_no_record_of_the_ledger(self, harness: BatchHarness, deferred: Submission) -> None:
        assert harness.batch(ROWS).checkpoint_uri.endswith("/batch.1.jsonl")
        assert len([entry for entry in harness.entries() if entry.record.fingerprint]) == len(ROWS)
