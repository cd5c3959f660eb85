"""The command line's report on a record: its state, the lookup result, the advice."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from airflow_provider_imagegen.cli import advice, tables
from airflow_provider_imagegen.cli.advice import Lookups
from airflow_provider_imagegen.cli.records import Filed, Place
from airflow_provider_imagegen.engine.recovery import Action, Send, Wait
from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway
from airflow_provider_imagegen.gateways.openai import OpenAIGateway
from airflow_provider_imagegen.ledger.models import Attempt, Entry, LedgerKey, LedgerRecord, Reuse, State
from airflow_provider_imagegen.schemas import ImageTask, TaskFailure
from tests.conftest import BUCKET

NOW = 1_800_000_000.0
ASKS = Lookups(name="acedatacloud", capabilities=AceDataCloudGateway.capabilities, timeout=60.0)
CANNOT_ASK = Lookups(name="openai", capabilities=OpenAIGateway.capabilities, timeout=600.0)


def filed(
    state: State, *, age: float = 3600.0, reuse: Reuse = "task", newest: int = 1, gateway: str = "", **changes: Any
) -> Filed:
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
    return Filed(Place(uri=f"s3://{BUCKET}/{key}.1.json", key=key, generation=1, newest=newest), Entry(record, "etag"))


class TestStanding:
    @pytest.mark.parametrize(("late", "expected"), [(-1, "claimed"), (1, "unknown")])
    def test_a_claim_becomes_unknown_after_the_grace(self, late: float, expected: str) -> None:
        record = filed("claimed", age=ASKS.grace + late).record
        assert advice.standing(record, ASKS, NOW) == expected

    def test_a_gateway_that_draws_while_the_worker_waits_has_its_whole_time_out(self) -> None:
        assert CANNOT_ASK.grace > CANNOT_ASK.timeout == OpenAIGateway.timeout


class TestAdvice:
    @pytest.mark.parametrize(
        ("record", "lookups", "words"),
        [
            (filed("landed"), ASKS, "hands out the same image"),
            (filed("landed", reuse="never"), ASKS, "Clearing the task pays for a new image"),
            (filed("failed"), ASKS, "Nothing was billed."),
            (
                filed("submitted", task_id="t-1"),
                ASKS,
                "if the Airflow task is not running any more, clear it: it lands the image without paying",
            ),
            (filed("submitted", task_id="t-1", reuse="never"), ASKS, "fetch this one from acedatacloud by hand"),
            (filed("submitted", task_id="t-1", reuse="always"), ASKS, "without paying"),
            (filed("answered", billed=1), CANNOT_ASK, "set on_unknown='resubmit' on the operator and clear the task"),
            (filed("answered", billed=1, task_id="t-1"), ASKS, "Paid: if the Airflow task"),
            (filed("claimed", age=1), ASKS, "Wait: it is being sent"),
            (filed("claimed"), ASKS, "or just clear the task"),
            (filed("claimed", reuse="never"), ASKS, "before you clear the task: clearing pays"),
            (filed("claimed", gateway="openai"), CANNOT_ASK, "To send it again, and pay for it, set on_unknown"),
            (filed("claimed", reuse="never"), CANNOT_ASK, "sends the request again, and that is paid"),
            (filed("claimed", newest=2), CANNOT_ASK, "generation 2 took its place. Whether this one was billed too"),
            (filed("answered", newest=2, billed=1), CANNOT_ASK, "This one was paid too."),
            (filed("failed", newest=2), ASKS, "This one was not billed."),
        ],
    )
    def test_tells_what_to_do(self, record: Filed, lookups: Lookups, words: str) -> None:
        assert words in advice.next_step(record, lookups, NOW)

    def test_has_words_for_every_step_that_a_next_try_takes(self) -> None:
        # A task that comes back to its own record waits for nobody else.
        assert {*advice._ADVICE, Send, Wait} == set(get_args(Action))

    def test_knows_the_operators_reuse_from_the_key(self) -> None:
        choices: tuple[Reuse, ...] = ("task", "always", "never")
        assert tuple(advice.reuse_of(filed("claimed", reuse=reuse).record) for reuse in choices) == choices


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
        finding = advice.finding(filed("claimed"), task, ASKS, NOW)
        assert (finding.found, finding.changes.get("state")) == (found, noted)
        assert finding.changes.get("task_id") == (task.task_id if noted else None)

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
        finding = advice.finding(filed("submitted", task_id="t-1"), task, ASKS, NOW)
        assert (finding.found, finding.changes) == (found, {})

    @pytest.mark.parametrize(("state", "found"), [("unseen", "not shown"), ("failed", "failed, not billed")])
    def test_of_a_paid_image_changes_nothing_by_absence_or_failure(self, state: Any, found: str) -> None:
        record = filed("answered", billed=1)
        assert advice.asked_how(record, ASKS, NOW) == "trace_id"
        task = ImageTask(state=state, task_id=None if state == "unseen" else "t-1")
        finding = advice.finding(record, task, ASKS, NOW)
        assert (finding.found, finding.changes) == (found, {})

    def test_of_a_paid_image_that_the_gateway_keeps_notes_its_task(self) -> None:
        finding = advice.finding(filed("answered", billed=1), ImageTask(state="succeeded", task_id="t-1"), ASKS, NOW)
        assert (finding.found, finding.changes["task_id"]) == ("finished: paid, not landed", "t-1")

    def test_of_a_paid_image_that_came_with_the_answer(self) -> None:
        record = filed("answered", gateway="openai", billed=1)
        assert advice.finding(record, None, CANNOT_ASK, NOW).found == "paid, not landed"
        assert advice.asked_how(record, CANNOT_ASK, NOW) == "not"


class TestTotals:
    def test_count_money_and_doubt(self) -> None:
        records = [filed("claimed"), filed("submitted", task_id="t-1"), filed("answered", billed=2)]
        listed = [tables.row(record, ASKS, NOW) for record in records]
        assert tables.totals(listed) == (
            "3 records: 2 image(s) known to be billed, 0 landed; "
            "1 request(s) open at the gateway, 1 of unknown outcome."
        )
