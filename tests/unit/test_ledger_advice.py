"""The command line's report on a record: its state, the lookup result, the advice."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from airflow_provider_imagegen.cli import advice, tables
from airflow_provider_imagegen.cli.advice import AskedGateway
from airflow_provider_imagegen.cli.records import Location, StoredRecord
from airflow_provider_imagegen.engine.recovery import Action, Send, Wait
from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway
from airflow_provider_imagegen.gateways.openai import OpenAIGateway
from airflow_provider_imagegen.ledger.models import Attempt, Entry, LedgerKey, LedgerRecord, Reuse, State
from airflow_provider_imagegen.schemas import ImageTask, TaskFailure
from tests.conftest import BUCKET

NOW = 1_800_000_000.0
ASKS = AskedGateway(name="acedatacloud", capabilities=AceDataCloudGateway.capabilities, timeout=60.0)
CANNOT_ASK = AskedGateway(name="openai", capabilities=OpenAIGateway.capabilities, timeout=600.0)


def stored(
    state: State, *, age: float = 3600.0, reuse: Reuse = "task", newest: int = 1, gateway: str = "", **changes: Any
) -> StoredRecord:
    attempt = Attempt(dag_id="shop", task_id="shoot", run_id="monday", try_number=1)
    key = LedgerKey.of(attempt, reuse, 0, "f00d")
    record = LedgerRecord(
        state=state,
        key=str(key),
        generation=1,
        item=0,
        fingerprint="f00d",
        gateway=gateway or "acedatacloud",
        trace_id="trace-1",
        attempt=attempt,
        claimed_at=NOW - age,
        updated_at=NOW - age,
        **changes,
    )
    return StoredRecord(
        Location(uri=f"s3://{BUCKET}/{key}.1.json", key=key, generation=1, newest=newest), Entry(record, "etag")
    )


class TestStanding:
    @pytest.mark.parametrize(("late", "expected"), [(-1, "claimed"), (1, "unknown")])
    def test_a_claim_becomes_unknown_after_the_grace(self, late: float, expected: str) -> None:
        record = stored("claimed", age=ASKS.grace + late).record
        assert advice.shown_state(record, ASKS, NOW) == expected

    def test_a_gateway_that_draws_while_the_worker_waits_has_its_whole_time_out(self) -> None:
        assert CANNOT_ASK.grace > CANNOT_ASK.timeout == OpenAIGateway.timeout


class TestTimes:
    @pytest.mark.parametrize("moment", [1e308, -1e308, float("inf"), float("nan"), 1e12])
    def test_that_are_no_dates_are_shown_as_they_are(self, moment: float) -> None:
        """One record of somebody else's must not hide the others."""
        record = stored("claimed", age=NOW - moment)
        assert tables.row(record, ASKS, NOW)["updated"] == str(record.record.updated_at)
        assert tables.details(record, ASKS, NOW)["next"]


class TestAdvice:
    @pytest.mark.parametrize(
        ("record", "asked", "words"),
        [
            (stored("landed"), ASKS, "hands out the same image"),
            (stored("landed", reuse="never"), ASKS, "Clearing the task pays for a new image"),
            (stored("failed"), ASKS, "Nothing was billed."),
            (
                stored("submitted", task_id="t-1"),
                ASKS,
                "if the Airflow task is not running any more, clear it: it lands the image without paying",
            ),
            (stored("submitted", task_id="t-1", reuse="never"), ASKS, "fetch this one from acedatacloud by hand"),
            (stored("submitted", task_id="t-1", reuse="always"), ASKS, "without paying"),
            (stored("answered", billed=1), CANNOT_ASK, "set on_unknown='resubmit' on the operator and clear the task"),
            (stored("answered", billed=1, task_id="t-1"), ASKS, "Paid: if the Airflow task"),
            (stored("claimed", age=1), ASKS, "Wait: it is being sent"),
            (stored("claimed"), ASKS, "or just clear the task"),
            (stored("claimed", reuse="never"), ASKS, "before you clear the task: clearing pays"),
            (stored("claimed", gateway="openai"), CANNOT_ASK, "To send it again, and pay for it, set on_unknown"),
            (stored("claimed", reuse="never"), CANNOT_ASK, "sends the request again, and that is paid"),
            (stored("claimed", newest=2), CANNOT_ASK, "generation 2 took its place. Whether this one was billed too"),
            (stored("answered", newest=2, billed=1), CANNOT_ASK, "This one was paid too."),
            (stored("failed", newest=2), ASKS, "This one was not billed."),
        ],
    )
    def test_tells_what_to_do(self, record: StoredRecord, asked: AskedGateway, words: str) -> None:
        assert words in advice.advice_for(record, asked, NOW)

    def test_has_words_for_every_step_that_a_next_try_takes(self) -> None:
        # A task that comes back to its own record waits for nobody else.
        assert {*advice._ADVICE, Send, Wait} == set(get_args(Action))

    def test_knows_the_operators_reuse_from_the_key(self) -> None:
        choices: tuple[Reuse, ...] = ("task", "always", "never")
        assert tuple(advice.reuse_of(stored("claimed", reuse=reuse).record) for reuse in choices) == choices


class TestFinding:
    @pytest.mark.parametrize(
        ("state", "found", "noted"),
        [
            ("unseen", "never accepted", None),
            ("running", "running", "submitted"),
            ("succeeded", "finished: paid, not landed", "submitted"),
            ("failed", "failed, not billed", "failed"),
        ],
    )
    def test_of_an_unknown_outcome(self, state: Any, found: str, noted: str | None) -> None:
        failure = TaskFailure(code="oops", message="no paint") if state == "failed" else None
        task = ImageTask(state=state, task_id=None if state == "unseen" else "t-9", failure=failure)
        outcome = advice.outcome_of(stored("claimed"), task, ASKS, NOW)
        assert (outcome.found, outcome.changes.get("state")) == (found, noted)
        assert outcome.changes.get("task_id") == (task.task_id if noted else None)

    @pytest.mark.parametrize(
        ("state", "found"),
        [
            ("unseen", "not shown"),
            ("running", "running"),
            ("succeeded", "finished: paid, not landed"),
            ("failed", "failed, not billed"),
        ],
    )
    def test_of_a_submitted_task_changes_nothing(self, state: Any, found: str) -> None:
        task = ImageTask(state=state, task_id="t-1")
        outcome = advice.outcome_of(stored("submitted", task_id="t-1"), task, ASKS, NOW)
        assert (outcome.found, outcome.changes) == (found, {})

    @pytest.mark.parametrize(("state", "found"), [("unseen", "not shown"), ("failed", "failed, not billed")])
    def test_of_a_paid_image_changes_nothing_by_absence_or_failure(self, state: Any, found: str) -> None:
        record = stored("answered", billed=1)
        assert advice.asked_how(record, ASKS, NOW) == "trace_id"
        task = ImageTask(state=state, task_id=None if state == "unseen" else "t-1")
        outcome = advice.outcome_of(record, task, ASKS, NOW)
        assert (outcome.found, outcome.changes) == (found, {})

    def test_of_a_paid_image_that_the_gateway_keeps_notes_its_task(self) -> None:
        outcome = advice.outcome_of(
            stored("answered", billed=1), ImageTask(state="succeeded", task_id="t-1"), ASKS, NOW
        )
        assert (outcome.found, outcome.changes["task_id"]) == ("finished: paid, not landed", "t-1")

    def test_of_a_paid_image_that_came_with_the_answer(self) -> None:
        record = stored("answered", gateway="openai", billed=1)
        assert advice.outcome_of(record, None, CANNOT_ASK, NOW).found == "paid, not landed"
        assert advice.asked_how(record, CANNOT_ASK, NOW) == "not"


class TestTotals:
    def test_count_money_and_doubt(self) -> None:
        records = [stored("claimed"), stored("submitted", task_id="t-1"), stored("answered", billed=2)]
        listed = [tables.row(record, ASKS, NOW) for record in records]
        assert tables.totals(listed) == (
            "3 records: 2 image(s) known to be billed, 0 landed; "
            "1 request(s) open at the gateway, 1 of unknown outcome."
        )
