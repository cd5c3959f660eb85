"""The next action after an earlier try is a pure decision."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_imagegen.engine.recovery import (
    Adopt,
    Attach,
    AwaitEnd,
    CallState,
    Find,
    Hand,
    OnClear,
    Policy,
    Renew,
    Stop,
    Wait,
    is_held_by_older_epoch,
    next_action,
    when_gone,
)
from airflow_provider_imagegen.exceptions import ModerationBlocked, OutcomeUnknown, PaidImageLost
from airflow_provider_imagegen.gateways.base import Capabilities
from airflow_provider_imagegen.ledger.models import Attempt, Entry, LedgerRecord
from airflow_provider_imagegen.schemas import TaskFailure

WITH_LOOK_UP = Capabilities(tasks=True, look_up_by_trace_id=True)
WITHOUT = Capabilities()
ME = Attempt(dag_id="d", task_id="t", run_id="r")
OTHER = Attempt(dag_id="other", task_id="t", run_id="r")


def record(state: str, **changes: Any) -> LedgerRecord:
    fields: dict[str, Any] = {
        "state": state,
        "key": "k",
        "generation": 1,
        "item": 0,
        "fingerprint": "f",
        "gateway": "g",
        "trace_id": "trace",
        "attempt": ME,
        "claimed_at": 0.0,
        "updated_at": 0.0,
    }
    return LedgerRecord.model_validate(fields | changes)


def step_for(
    left: LedgerRecord, capabilities: Capabilities, policy: Policy, *, attempt: Attempt = ME, age: float = 3600.0
) -> object:
    return next_action(CallState(Entry(left, "etag", age=age)), attempt, capabilities, policy, timeout=60.0)


class TestNextAction:
    @pytest.mark.parametrize(
        ("left", "capabilities", "policy", "step"),
        [
            (record("claimed"), WITH_LOOK_UP, Policy(), Find()),
            (record("claimed"), WITH_LOOK_UP, Policy(on_unknown="resubmit"), Find()),
            (record("claimed"), WITHOUT, Policy(on_unknown="resubmit"), Renew()),
            (record("submitted", task_id="t1"), WITHOUT, Policy(), Attach("t1")),
            (record("cancelling", task_id="t1"), WITHOUT, Policy(), AwaitEnd("t1")),
            (record("answered"), WITH_LOOK_UP, Policy(), Find()),
            (record("submitted"), WITH_LOOK_UP, Policy(), Find()),
            (record("answered", task_id="t1"), WITH_LOOK_UP, Policy(), Attach("t1")),
            (record("answered"), WITHOUT, Policy(), Adopt()),
            (record("answered"), WITHOUT, Policy(on_unknown="resubmit"), Adopt()),
            (record("failed"), WITHOUT, Policy(), Renew()),
            (record("failed", task_id="t1"), WITH_LOOK_UP, Policy(), Renew()),
            (record("landed"), WITHOUT, Policy(), Hand()),
            (record("landed"), WITHOUT, Policy(on_clear="regenerate"), Hand()),
        ],
    )
    def test_follows_the_table(
        self, left: LedgerRecord, capabilities: Capabilities, policy: Policy, step: object
    ) -> None:
        assert step_for(left, capabilities, policy) == step

    @pytest.mark.parametrize(
        ("refused_to", "changes", "age", "epoch", "is_remembered"),
        [
            (ME, {}, 59.0, 0, True),
            (OTHER, {}, 59.0, 0, True),
            (ME, {}, 60.0, 0, False),
            (ME, {}, 59.0, 1, False),
            (OTHER, {}, 59.0, 1, False),
            (ME, {"failure": TaskFailure(code="ModerationBlocked", message="nudity")}, 59.0, 0, True),
            (ME, {"failure": TaskFailure(code="api_error", message="m")}, 59.0, 0, False),
            (ME, {"failure": None}, 59.0, 0, False),
        ],
    )
    def test_remembers_refusals_of_the_content_policy_until_a_clear(
        self, refused_to: Attempt, changes: dict[str, Any], age: float, epoch: int, is_remembered: bool
    ) -> None:
        failure = TaskFailure(code="moderation_blocked", message="nudity")
        left = record("failed", **({"failure": failure, "attempt": refused_to} | changes))
        mine = ME.model_copy(update={"epoch": epoch})
        step = step_for(left, WITH_LOOK_UP, Policy(remember_refusals=60.0), attempt=mine, age=age)
        assert isinstance(step, Stop) is is_remembered
        assert is_remembered or step == Renew()
        if isinstance(step, Stop):
            assert isinstance(step.error, ModerationBlocked)
            assert (step.error.billed, step.error.message[-6:]) == ("no", "nudity")

    def test_stops_where_the_outcome_is_unknown(self) -> None:
        step = step_for(record("claimed"), WITHOUT, Policy())
        assert isinstance(step, Stop)
        assert type(step.error) is OutcomeUnknown
        assert step.error.trace_id == "trace"

    def test_pays_again_for_what_is_gone_only_where_it_was_landed_or_that_was_chosen(self) -> None:
        assert when_gone(record("landed"), Policy()) == Renew()
        assert when_gone(record("answered"), Policy(on_unknown="resubmit")) == Renew()
        step = when_gone(record("answered"), Policy())
        assert isinstance(step, Stop)
        assert type(step.error) is PaidImageLost

    @pytest.mark.parametrize(
        ("drawn_by", "drawn_in", "epoch", "step"),
        [
            (ME, 0, 0, Hand()),
            (ME, 0, 1, Renew()),
            (ME, 1, 1, Hand()),
            (ME, 1, 2, Renew()),
            (OTHER, 5, 0, Hand()),
            (OTHER, 5, 1, Renew()),
        ],
    )
    def test_generates_again_once_for_every_clear(
        self, drawn_by: Attempt, drawn_in: int, epoch: int, step: object
    ) -> None:
        left = record("landed", attempt=drawn_by.model_copy(update={"epoch": drawn_in}))
        mine = ME.model_copy(update={"epoch": epoch})
        assert step_for(left, WITH_LOOK_UP, Policy(on_clear="regenerate"), attempt=mine) == step

    @pytest.mark.parametrize(
        ("held_by", "held_in", "epoch", "on_clear", "is_held"),
        [
            (ME, 0, 1, "regenerate", True),
            (ME, 1, 1, "regenerate", False),
            (ME, 2, 1, "regenerate", False),
            (ME, 0, 1, "reuse", False),
            (OTHER, 0, 1, "regenerate", False),
        ],
    )
    def test_takes_images_of_its_own_older_tries_instead_of_generating_them_again(
        self, held_by: Attempt, held_in: int, epoch: int, on_clear: OnClear, is_held: bool
    ) -> None:
        left = record("submitted", attempt=held_by.model_copy(update={"epoch": held_in}))
        mine = ME.model_copy(update={"epoch": epoch})
        assert is_held_by_older_epoch(left, mine, Policy(on_clear=on_clear)) is is_held

    @pytest.mark.parametrize(
        ("state", "age", "step"),
        [
            ("claimed", 59.0, Wait()),
            ("answered", 299.0, Wait()),
            ("answered", 301.0, Adopt()),
        ],
    )
    def test_waits_for_another_task_instance_that_cannot_be_looked_up(
        self, state: str, age: float, step: object
    ) -> None:
        assert step_for(record(state, attempt=OTHER), WITHOUT, Policy(), age=age) == step

    def test_does_not_wait_for_an_older_try_of_its_own(self) -> None:
        assert isinstance(step_for(record("claimed"), WITHOUT, Policy(), age=0.0), Stop)

    def test_pays_again_for_what_the_gateway_has_lost_only_where_that_was_chosen(self) -> None:
        lost = record("submitted", task_id="t1", failure=TaskFailure(code="ResultExpired", message="gone"))
        assert step_for(lost, WITH_LOOK_UP, Policy()) == Attach("t1")
        assert step_for(lost, WITH_LOOK_UP, Policy(on_unknown="resubmit")) == Renew()
