"""Requests whose response is lost: how long they are looked up, and from when on."""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.crash.crash_runner import DEADLINE, PASSING, Task
from tests.stack.waiting import HANG

NewTask = Callable[..., Task]


class TestGatewayThatLosesEveryRequest:
    def test_is_given_up_at_the_deadline_and_the_retry_sends_again(self, new_task: NewTask) -> None:
        task = new_task(n=1, model="gpt-image-1", timeout=2.5 * PASSING, visibility_grace=PASSING)
        task.emulator.arm("submit", "error", accept=False, times=None)
        first = task.attempt()
        assert first.error in {"TaskTimeout", "LookUpFailed"}
        task.emulator.disarm()
        task.let_time_pass()
        assert task.attempt(operator={**task.arguments, "timeout": HANG}).error is None
        assert task.bill().images == 1


class TestGatewayThatTakesARequestAndCannotBeAsked:
    def test_is_given_up_at_the_deadline_and_the_retry_attaches(self, new_task: NewTask) -> None:
        task = new_task(n=1, model="gpt-image-1", timeout=DEADLINE)
        task.emulator.arm("submit", "drop")
        task.emulator.arm("lookup", "error", status=503, times=None)
        first = task.attempt()
        assert first.error == "LookUpFailed"
        assert "billed: unknown" in first.message
        task.emulator.disarm()
        retry = task.attempt(operator={**task.arguments, "timeout": HANG})
        assert (retry.error, retry.http.count("submit")) == (None, 0)
        assert task.bill().images == 1


class TestAcceptedLongAfterTheClaim:
    def test_the_visibility_grace_begins_when_the_response_is_lost(self, new_task: NewTask) -> None:
        # Shown within the time since the response was lost, and not within the time since the claim.
        task = new_task(n=1, model="gpt-image-1", visibility_grace=6 * PASSING)
        task.emulator.arm("submit", "refuse", code="rate_limited", retry_after=math.ceil(4 * PASSING))
        task.emulator.arm("submit", "drop")
        task.emulator.arm("submit", "invisible", seconds=3 * PASSING)
        report = task.attempt()
        assert report.error is None
        assert list(task.bill().per_trace.values()) == [1]
