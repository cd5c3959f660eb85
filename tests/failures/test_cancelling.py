"""Row 25: a submitted request is cancelled when its Airflow task is killed or cleared, if the gateway supports it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_imagegen.engine import run, submit
from airflow_provider_imagegen.engine.cancel import cancel_all
from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.failpoints import Failpoint, observe
from airflow_provider_imagegen.gateways import registered_gateways
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.ledger.models import Attempt
from airflow_provider_imagegen.schemas import SlotWait, Submission
from airflow_provider_imagegen.triggers import imagegen as trigger_module
from airflow_provider_imagegen.triggers.imagegen import ImageTasksTrigger
from tests.conftest import BUCKET
from tests.failures.conftest import Harness, killed_at
from tests.integration.conftest import set_connection
from tests.stack.waiting import HANG, wait_until

THIRD_PARTY = Path(__file__).parents[1] / "third_party"
pytestmark = pytest.mark.usefixtures("connections", "short_deferral")


@pytest.fixture
def short_deferral(short_grace: Callable[[float], None]) -> None:
    short_grace(0.0)


@pytest.fixture
def cancellable(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """A harness whose gateway can cancel, and finishes nothing until it is released."""
    monkeypatch.syspath_prepend(THIRD_PARTY)
    # One look tells whether the gateway heeds a cancel; and no cancel is given up for being slow.
    monkeypatch.setattr(submit, "CANCELLING_TIME", 0.0)
    monkeypatch.setattr(run, "CANCEL_TIMEOUT", HANG)
    registered_gateways.cache_clear()
    harness.use("cancelling")
    harness.emulator.hold()
    yield harness
    registered_gateways.cache_clear()
    sys.modules.pop("cancelling_gateway", None)


def kill(harness: Harness, submission: Submission, try_number: int = 1) -> None:
    """Do what the trigger of a try does when Airflow kills it."""
    attempt = Attempt(dag_id="dag", task_id="t", run_id=harness.run_id, try_number=try_number, process="other")

    async def cancel() -> None:
        async with ImageClient(harness.settings) as client:
            await cancel_all(submission.open, client, harness.ledger, attempt)

    asyncio.run(cancel())


def states(harness: Harness) -> list[str]:
    return [entry.record.state for entry in harness.entries()]


def running(harness: Harness) -> int:
    return harness.emulator.totals()["running"]


class TestKilledWhileDeferred:
    def test_is_cancelled_at_the_gateway(self, cancellable: Harness) -> None:
        kill(cancellable, cancellable.submitted(n=2))
        assert states(cancellable) == ["failed", "failed"]
        assert (running(cancellable), cancellable.emulator.totals()["accepted_images"]) == (0, 0)

    def test_next_try_pays_once_for_a_new_generation(self, cancellable: Harness) -> None:
        kill(cancellable, cancellable.submitted())
        assert cancellable.emulator.release() == 0
        manifest = cancellable.attempt(try_number=2)
        assert cancellable.is_landed(manifest)
        assert manifest.billed == cancellable.billed == 1
        assert states(cancellable) == ["failed", "landed"]

    def test_continues_where_the_gateway_cannot(self, cancellable: Harness, caplog: pytest.LogCaptureFixture) -> None:
        cancellable.use("acedatacloud")
        kill(cancellable, cancellable.submitted())
        assert "keeps running at the gateway and is billed" in caplog.text
        assert (states(cancellable), running(cancellable)) == (["submitted"], 1)


class TestClearedWhileDeferred:
    def test_old_try_spares_what_the_new_one_attached_to(self, cancellable: Harness) -> None:
        first = cancellable.submitted()
        second = cancellable.submitted(try_number=2)
        kill(cancellable, first)
        assert second.task_ids == first.task_ids
        assert (states(cancellable), running(cancellable), cancellable.submits) == (["submitted"], 1, 1)

    def test_new_try_may_cancel_it(self, cancellable: Harness) -> None:
        cancellable.submitted()
        kill(cancellable, cancellable.submitted(try_number=2), try_number=2)
        assert (states(cancellable), running(cancellable)) == (["failed"], 0)

    def test_new_try_that_attaches_in_the_last_moment_wins(self, cancellable: Harness) -> None:
        first = cancellable.submitted()
        attached: list[Submission] = []

        def attach(which: Failpoint, moment: str) -> None:
            if (which, moment) == (Failpoint.RECORD, "before") and not attached:
                end()
                thread = threading.Thread(target=lambda: attached.append(cancellable.submitted(try_number=2)))
                thread.start()
                thread.join()

        end = observe(attach)
        kill(cancellable, first)
        assert attached[0].task_ids == first.task_ids
        assert (states(cancellable), running(cancellable)) == (["submitted"], 1)


class TestSharedImage:
    def test_is_never_cancelled(self, cancellable: Harness) -> None:
        cancellable.policy = Policy(reuse="always")
        kill(cancellable, cancellable.submitted(prompt=f"shared by all {cancellable.run_id}"))
        assert (states(cancellable), running(cancellable)) == (["submitted"], 1)


class TestCancelThatCameToNothing:
    def test_killed_before_asking_leaves_a_task_to_attach_to(self, cancellable: Harness) -> None:
        submission = cancellable.submitted()
        with killed_at(Failpoint.CANCEL, "before"):
            kill(cancellable, submission)
        assert states(cancellable) == ["cancelling"]
        second = cancellable.submitted(try_number=2)
        assert second.task_ids == submission.task_ids
        assert (states(cancellable), cancellable.submits) == (["submitted"], 1)

    def test_killed_after_asking_starts_a_new_generation(self, cancellable: Harness) -> None:
        submission = cancellable.submitted()
        with killed_at(Failpoint.CANCEL, "after"):
            kill(cancellable, submission)
        assert cancellable.emulator.release() == 0
        assert cancellable.is_landed(cancellable.attempt(try_number=2))
        assert (cancellable.billed, states(cancellable)) == (1, ["failed", "landed"])

    def test_too_late_costs_nothing_more(self, cancellable: Harness) -> None:
        submission = cancellable.submitted()
        assert cancellable.emulator.release() == 1
        asyncio.run(cancellable.work().resume(submission, gave_up=False))
        kill(cancellable, submission)
        assert cancellable.is_landed(cancellable.attempt(try_number=2))
        assert cancellable.billed == cancellable.submits == 1

    def test_refused_because_it_is_done_is_landed_by_the_next_try(self, cancellable: Harness) -> None:
        submission = cancellable.submitted()
        assert cancellable.emulator.release() == 1
        kill(cancellable, submission)
        assert states(cancellable) == ["submitted"]
        assert cancellable.is_landed(cancellable.attempt(try_number=2))
        assert cancellable.billed == cancellable.submits == 1


class TestKilledInTheWorker:
    def test_cancels_what_it_waits_for(self, cancellable: Harness) -> None:
        killed = cancellable.work(n=2)
        ended: list[BaseException] = []

        def begin() -> None:
            try:
                asyncio.run(killed.begin())
            except Exception as error:  # noqa: BLE001
                ended.append(error)

        thread = threading.Thread(target=begin)
        thread.start()
        wait_until(lambda: states(cancellable) == ["submitted", "submitted"], what="both submits")
        killed.cancel()
        thread.join()
        assert states(cancellable) == ["failed", "failed"]
        assert "cancelled" in str(ended[0])
        assert cancellable.emulator.totals()["accepted_images"] == 0


class TestTrigger:
    def use_cancelling(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        emulator = harness.emulator
        fields = {"conn_type": "imagegen", "host": emulator.base_url, "password": emulator.token}
        set_connection(monkeypatch, "imagegen_default", **fields, extra={"gateway": "cancelling"})

    async def test_cancels_through_its_own_connections(
        self, cancellable: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.use_cancelling(cancellable, monkeypatch)
        submission = await asyncio.to_thread(cancellable.submitted)
        await trigger(cancellable, submission).on_kill()
        assert (states(cancellable), running(cancellable)) == (["failed"], 0)

    async def test_continues_when_airflow_cancels_the_call_itself(
        self, cancellable: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.use_cancelling(cancellable, monkeypatch)
        submission = await asyncio.to_thread(cancellable.submitted)
        killing = asyncio.create_task(trigger(cancellable, submission).on_kill())
        await asyncio.sleep(0)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        await asyncio.to_thread(wait_until, lambda: running(cancellable) == 0, what="the cancel")
        await asyncio.gather(*trigger_module._cancelling)
        assert states(cancellable) == ["failed"]

    async def test_says_so_when_a_connection_is_gone(
        self, cancellable: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        submission = await asyncio.to_thread(cancellable.submitted)
        await trigger(cancellable, submission, imagegen_conn_id="gone").on_kill()
        assert "Nothing was cancelled" in caplog.text
        assert running(cancellable) == 1

    async def test_that_waits_with_nothing_submitted_says_nothing_of_a_request(
        self, cancellable: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        now = time.time()
        await trigger(cancellable, Submission(submitted_at=now, deadline=now, slot=SlotWait(since=now))).on_kill()
        assert caplog.text == ""

    async def test_of_an_older_release_has_nothing_to_cancel_by(self, cancellable: Harness) -> None:
        submission = await asyncio.to_thread(cancellable.submitted)
        await trigger(cancellable, submission, hold=None).on_kill()
        assert running(cancellable) == 1


def trigger(harness: Harness, submission: Submission, **changes: Any) -> ImageTasksTrigger:
    attempt = Attempt(dag_id="dag", task_id="t", run_id=harness.run_id).model_dump(mode="json")
    ledger_key = harness.ledger.prefix
    hold = {"aws_conn_id": "aws_default", "bucket": BUCKET, "ledger_key": ledger_key, "attempt": attempt}
    arguments: dict[str, Any] = {"imagegen_conn_id": "imagegen_default", "not_before": 0.0, "poll_interval": 0.1}
    submitted = submission.model_dump(mode="json")
    return ImageTasksTrigger(submission=submitted, **(arguments | {"hold": hold} | changes))
