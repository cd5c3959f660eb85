"""A gateway without a free slot: what defers is not submitted, and is billed once whatever happens on the way."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from airflow_provider_imagegen.exceptions import ImageGenError, RateLimited, RequestRefused, TaskTimeout
from airflow_provider_imagegen.failpoints import Failpoint, Moment
from airflow_provider_imagegen.schemas import Manifest, Submission
from tests.failures.conftest import DEADLINE, Harness, killed_at
from tests.stack.waiting import HANG


@pytest.fixture
def full(harness: Harness) -> Harness:
    """A gateway that has no free slot."""
    refuse(harness)
    return harness


def refuse(harness: Harness, **how: Any) -> None:
    harness.emulator.arm("submit", "refuse", times=None, code="rate_limited", status=429, **how)


def submitted(harness: Harness, **kwargs: Any) -> Submission:
    return harness.submitted(slot_grace=0.0, **kwargs)


def resume(harness: Harness, submission: Submission, **kwargs: Any) -> Manifest | Submission:
    work = harness.work(slot_grace=0.0, **kwargs)
    # As it crosses a deferral.
    again = Submission.model_validate(submission.model_dump(mode="json"))
    return asyncio.run(work.resume(again, gave_up=False))


def landed(harness: Harness, submission: Submission, **kwargs: Any) -> Manifest:
    manifest = resume(harness, submission, **kwargs)
    assert isinstance(manifest, Manifest)
    assert harness.is_landed(manifest)
    return manifest


def states(harness: Harness) -> list[tuple[int, str]]:
    return [(entry.record.generation, entry.record.state) for entry in harness.entries()]


class TestRefusedRequest:
    def test_defers_unsubmitted_and_the_ledger_says_so(self, full: Harness) -> None:
        submission = submitted(full)
        assert submission.slot is not None
        assert (submission.slot.refusals, submission.open) == (1, ())
        assert (states(full), full.billed) == ([(1, "waiting")], 0)

    def test_is_sent_at_once_when_it_is_woken(self, full: Harness, sends: list[Failpoint]) -> None:
        submission = submitted(full)
        full.emulator.disarm()
        lookups = full.emulator.totals()["lookups"]
        manifest = landed(full, submission)
        # One look for the image; none for a request that was never accepted.
        assert len(sends) == 2
        assert full.emulator.totals()["lookups"] - lookups <= 2
        assert (states(full), full.billed, manifest.billed) == ([(1, "landed")], 1, 1)
        assert full.entries()[0].record.account == full.settings.account_digest

    def test_keeps_its_place_when_it_is_refused_again(self, full: Harness) -> None:
        first = submitted(full)
        again = resume(full, first)
        assert isinstance(again, Submission)
        assert first.slot is not None
        assert again.slot is not None
        assert (again.slot.since, again.slot.refusals) == (first.slot.since, 2)
        assert (again.submitted_at, again.deadline) == (first.submitted_at, first.deadline)

    def test_waits_in_the_worker_where_the_triggerer_could_not_go_on(self, full: Harness) -> None:
        submission = submitted(full)
        full.emulator.disarm()
        full.emulator.arm("submit", "refuse", code="rate_limited", status=429, times=1)
        manifest = asyncio.run(full.work(slot_grace=0.0).resume(submission, gave_up=True))
        assert isinstance(manifest, Manifest)
        assert (full.is_landed(manifest), full.billed) == (True, 1)

    def test_says_when_the_gateway_may_be_asked_again(self, harness: Harness) -> None:
        refuse(harness, retry_after=40)
        slot = submitted(harness).slot
        assert slot is not None
        assert slot.not_before - time.time() > 0

    def test_waits_in_the_worker_where_that_was_chosen(self, harness: Harness, sends: list[Failpoint]) -> None:
        harness.emulator.arm("submit", "refuse", code="rate_limited", status=429, times=2)
        assert harness.is_landed(harness.attempt())
        assert len(sends) == 3

    def test_fails_at_its_deadline_and_says_that_nothing_was_billed(self, full: Harness) -> None:
        submission = submitted(full)
        over = submission.model_copy(update={"deadline": time.time(), "submitted_at": time.time() - 2 * DEADLINE})
        with pytest.raises(TaskTimeout, match=r"before it was accepted: .*429.*billed: no") as caught:
            resume(full, over, timeout=DEADLINE)
        assert "what was submitted" not in str(caught.value)
        assert (states(full), full.billed) == ([(1, "waiting")], 0)

    def test_fails_at_once_if_the_gateway_asks_to_wait_beyond_its_deadline(self, harness: Harness) -> None:
        refuse(harness, retry_after=2 * HANG)
        with pytest.raises(RateLimited, match="billed: no"):
            submitted(harness, timeout=HANG)
        assert states(harness) == [(1, "waiting")]

    def test_is_sent_by_a_retry(self, full: Harness) -> None:
        submitted(full)
        full.emulator.disarm()
        assert full.is_landed(full.attempt(try_number=2))
        assert (states(full), full.billed) == ([(1, "landed")], 1)

    def test_does_not_defer_for_what_no_slot_can_cure(self, harness: Harness) -> None:
        harness.use("openai", "/openai-api")
        harness.emulator.arm("submit", "refuse", times=1, code="bad_request")
        refuse(harness, after=1)
        with pytest.raises(RequestRefused):
            submitted(harness, model="dall-e-3", n=2)


class TestSeveralCalls:
    def test_those_that_were_accepted_are_not_sent_again(self, harness: Harness) -> None:
        harness.emulator.hold()
        refuse(harness, after=1)
        submission = submitted(harness, model="dall-e-3", n=2)
        assert (len(submission.open), submission.slot is not None) == (1, True)
        harness.emulator.disarm()
        harness.emulator.release()
        manifest = landed(harness, submission, model="dall-e-3", n=2)
        assert (manifest.delivered, manifest.billed, harness.billed) == (2, 2, 2)

    def test_beyond_the_limit_wait_for_a_slot_too(self, harness: Harness) -> None:
        harness.use("acedatacloud", max_in_flight=1)
        harness.emulator.hold()
        submission = submitted(harness, model="dall-e-3", n=2)
        assert submission.slot is not None
        assert (len(submission.open), submission.slot.refusals, harness.submits) == (1, 0, 1)
        harness.emulator.release()
        manifest = landed(harness, submission, model="dall-e-3", n=2)
        assert (manifest.delivered, harness.billed) == (2, 2)

    def test_land_as_they_are_if_the_request_has_changed_meanwhile(self, harness: Harness) -> None:
        harness.emulator.hold()
        refuse(harness, after=1)
        submission = submitted(harness, model="dall-e-3", n=2)
        harness.emulator.disarm()
        harness.emulator.release()
        with pytest.raises(ImageGenError) as caught:
            resume(harness, submission, model="dall-e-3", n=2, prompt="rendered differently")
        manifest = caught.value.result
        assert isinstance(manifest, Manifest)
        assert (manifest.delivered, harness.billed) == (1, 1)

    def test_that_are_paid_and_landed_are_not_paid_again_if_the_request_has_changed(self, harness: Harness) -> None:
        harness.use("openai", "/openai-api")
        refuse(harness, after=1)
        submission = submitted(harness, model="dall-e-3", n=2)
        assert (len(submission.landed), submission.slot is not None) == (1, True)
        harness.emulator.disarm()
        with pytest.raises(ImageGenError, match="billed: yes") as caught:
            resume(harness, submission, model="dall-e-3", n=2, prompt="rendered differently")
        assert isinstance(caught.value.result, Manifest)
        assert (caught.value.result.billed, harness.billed) == (1, 1)

    def test_wait_for_their_images_and_no_more_for_a_slot_if_the_request_has_changed(self, harness: Harness) -> None:
        harness.emulator.hold()
        refuse(harness, after=1)
        submission = submitted(harness, model="dall-e-3", n=2)
        again = resume(harness, submission, model="dall-e-3", n=2, prompt="rendered differently")
        assert isinstance(again, Submission)
        assert (len(again.open), again.slot) == (1, None)


class TestOtherDags:
    def test_one_of_two_that_ask_the_same_sends_and_the_other_attaches(self, full: Harness) -> None:
        from airflow_provider_imagegen.engine.recovery import Policy

        full.policy = Policy(reuse="always")
        first, second = submitted(full), submitted(full, dag_id="other")
        full.emulator.disarm()
        assert landed(full, second, dag_id="other").billed == 1
        assert landed(full, first).billed == 0
        assert full.billed == 1


class TestKilled:
    @pytest.mark.parametrize(
        ("which", "moment"), [(Failpoint.SUBMIT, "before"), (Failpoint.RECORD, "before"), (Failpoint.RECORD, "after")]
    )
    def test_on_its_way_to_the_deferral_it_is_billed_once(
        self, full: Harness, which: Failpoint, moment: Moment
    ) -> None:
        with killed_at(which, moment):
            submitted(full)
        full.emulator.disarm()
        full.age_claims()
        assert full.is_landed(full.attempt(try_number=2))
        assert full.billed == 1

    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize(
        ("which", "occurrence"), [(Failpoint.RECORD, 1), (Failpoint.SUBMIT, 1), (Failpoint.RECORD, 2)]
    )
    def test_after_it_was_woken_it_is_billed_once(
        self, full: Harness, which: Failpoint, occurrence: int, moment: Moment
    ) -> None:
        submission = submitted(full)
        full.emulator.disarm()
        with killed_at(which, moment, occurrence):
            resume(full, submission)
        full.age_claims()
        assert full.is_landed(full.attempt(try_number=2))
        assert full.billed == 1
