"""A worker is killed at every point where it has a side effect; then the retry runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.failpoints import Failpoint
from airflow_provider_imagegen.ledger.models import LedgerRecord
from tests.crash.conftest import CAPITALS, ODD_TEXTS, REPLACED, USUAL
from tests.crash.crash_runner import Task, counted, landed
from tests.crash.tries import DEFER, PUSH_XCOM, Point, Report
from tests.stack.fault_proxy import FaultProxy

IMAGES = 2
KILLED_ELSEWHERE = {Failpoint.CANCEL, Failpoint.PUT_CHECKPOINT}
"""Nothing of a single request's ordinary way; see the tests of row 25, and of batches."""
LATENCY = 0.2
"""Seconds an image takes where a try waits in the worker."""
NewTask = Callable[..., Task]

# Two calls of one image each.
TWO_CALLS = {
    Failpoint.CLAIM: 2,
    Failpoint.SUBMIT: 2,
    Failpoint.RECORD: 4,
    Failpoint.PUT_IMAGE: 2,
    Failpoint.PUT_MANIFEST: 1,
    PUSH_XCOM: 1,
}
# One call that answers with two images.
ONE_CALL = {**TWO_CALLS, Failpoint.CLAIM: 1, Failpoint.SUBMIT: 1, Failpoint.RECORD: 2}


@dataclass(frozen=True)
class Scenario:
    """One way in which two images are made.

    :param occurrences: Number of times that an undisturbed try reaches each effect.
    :param refusals: Number of submits that the gateway refuses for lack of a slot.
    :param is_variation: Whether another scenario shows the same effects at a gateway of the same kind.
    """

    name: str
    occurrences: dict[Any, int]
    gateway: str
    arguments: dict[str, Any] = field(default_factory=dict)
    refusals: int = 0
    is_variation: bool = False

    def points(self) -> Iterator[Point]:
        for effect, count in self.occurrences.items():
            for occurrence in range(1, count + 1):
                yield Point(str(effect), "before", occurrence)
                # Submits that are refused have no effect, nor have claims of what was claimed before the deferral.
                if occurrence <= count - self._in_vain(effect):
                    yield Point(str(effect), "after", occurrence)

    def _in_vain(self, effect: Any) -> int:
        return self.refusals if effect in {Failpoint.SUBMIT, Failpoint.CLAIM} else 0

    def short_run(self) -> Iterator[Point]:
        """Yield for every effect the points before its first and after its last occurrence.

        Of a variation it is the one before the last or the one after the first, in turn.
        """
        for number, (effect, count) in enumerate(self.occurrences.items()):
            if not self.is_variation:
                yield Point(str(effect), "before", 1)
                yield Point(str(effect), "after", count - self._in_vain(effect))
            elif number % 2:
                yield Point(str(effect), "before", count)
            else:
                yield Point(str(effect), "after", 1)

    def pace(self, emulator: RunningEmulator) -> None:
        """Have images take some time; where a try is to defer, so long that it certainly does."""
        if self.refusals:
            emulator.arm("submit", "refuse", code="rate_limited", status=429, times=self.refusals)
        if self.arguments.get("deferrable"):
            emulator.hold()
        else:
            emulator.change(latency=LATENCY)


DEFERRED = Scenario(
    "tasks, deferred", {**TWO_CALLS, DEFER: 1}, "acedatacloud", {"model": "gpt-image-1", "deferrable": True}
)
REFUSED = Scenario(
    "tasks, refused at first",
    {**TWO_CALLS, Failpoint.CLAIM: 4, Failpoint.SUBMIT: 4, Failpoint.RECORD: 8, DEFER: 1},
    "acedatacloud",
    {"model": "gpt-image-1", "deferrable": True},
    refusals=IMAGES,
    is_variation=True,
)
WAITED_FOR = Scenario(
    "tasks, in the worker", TWO_CALLS, "acedatacloud", {"model": "gpt-image-1", "deferrable": False}, is_variation=True
)
ONE_ANSWER = Scenario(
    "one response, fail", ONE_CALL, "openai", {"model": "gpt-image-1", "size": "1024x1024", "on_unknown": "fail"}
)
TWO_ANSWERS = Scenario(
    "two answers, fail",
    TWO_CALLS,
    "openai",
    {"model": "dall-e-3", "size": "1024x1024", "on_unknown": "fail"},
    is_variation=True,
)
RESUBMITTED = Scenario(
    "two answers, resubmit", TWO_CALLS, "openai", {"model": "dall-e-3", "size": "1024x1024", "on_unknown": "resubmit"}
)
SCENARIOS = (DEFERRED, REFUSED, WAITED_FOR, ONE_ANSWER, TWO_ANSWERS, RESUBMITTED)


def every_point(*scenarios: Scenario) -> pytest.MarkDecorator:
    cases = [_case(scenario, point) for scenario in scenarios for point in scenario.points()]
    return pytest.mark.parametrize(("scenario", "point"), cases)


def _case(scenario: Scenario, point: Point) -> Any:
    marks = () if point in scenario.short_run() else pytest.mark.full
    return pytest.param(scenario, point, id=f"{scenario.name}: {point}", marks=marks)


@pytest.fixture
def crashed(new_task: NewTask, table: list[tuple[str, ...]], surroundings: str) -> Callable[[Scenario, Point], Crash]:
    def crash(scenario: Scenario, point: Point) -> Crash:
        task = new_task(gateway=scenario.gateway, **scenario.arguments)
        scenario.pace(task.emulator)
        first = task.attempt(kill=point)
        assert first.killed
        task.let_time_pass()
        scenario.pace(task.emulator)
        left, billed_before, stored_before = task.records(), task.bill().images, len(task.stored())
        before = task.emulator.totals()
        retry = task.attempt()
        after = task.emulator.totals()
        assert retry.http.count("look_up_by_id") + retry.http.count("look_up_by_trace_id") == (
            after["lookup_requests"] - before["lookup_requests"]
        )
        downloads = after["downloads"] - before["downloads"]
        if surroundings == ODD_TEXTS:
            # What a retry finds in S3 without a record has lost it.
            assert {image["revised_prompt"] for image in retry.manifest.get("images", [])} <= {REPLACED, None}
        result = Crash(task, left, billed_before, stored_before, retry, downloads)
        table.append(result.row(scenario.name if surroundings == USUAL else f"{scenario.name}, {surroundings}", point))
        return result

    return crash


@dataclass(frozen=True)
class Crash:
    """The state after a killed try, and the result of its retry."""

    task: Task
    left: list[LedgerRecord]
    billed_before: int
    stored_before: int
    retry: Report
    downloads: int

    @property
    def states(self) -> Counter[str]:
        return Counter(record.state for record in self.left)

    def row(self, scenario: str, point: Point) -> tuple[str, ...]:
        states = ", ".join(record.state for record in self.left) or "nothing"
        sent = counted(entry for entry in (*self.retry.s3, *self.retry.http) if not entry.endswith("probe"))
        billed, stored = str(self.task.bill().images), str(len(self.task.stored()))
        return scenario, str(point), states, billed, stored, self.retry.error or "success", sent


class TestEveryPointIsKnown:
    @pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
    def test_a_try_that_nobody_kills_passes_exactly_the_points_at_which_others_are_killed(
        self, new_task: NewTask, scenario: Scenario
    ) -> None:
        task = new_task(gateway=scenario.gateway, **scenario.arguments)
        scenario.pace(task.emulator)
        report = task.attempt()
        assert report.error is None
        assert sorted(report.points) == sorted(scenario.points())
        assert {point.effect for point in report.points} >= set(map(str, set(Failpoint) - KILLED_ELSEWHERE))
        assert landed(report.manifest) == task.stored()


class TestGatewayWithTasks:
    @every_point(DEFERRED, WAITED_FOR)
    def test_retry_bills_nothing_twice_loses_nothing_and_does_only_what_is_missing(
        self, crashed: Callable[[Scenario, Point], Crash], scenario: Scenario, point: Point
    ) -> None:
        crash = crashed(scenario, point)
        self.check_result(crash)
        self.check_bill(crash)
        self.check_requests(crash)

    @every_point(REFUSED)
    def test_of_a_task_that_waits_for_a_slot_too(
        self, crashed: Callable[[Scenario, Point], Crash], scenario: Scenario, point: Point
    ) -> None:
        crash = crashed(scenario, point)
        self.check_result(crash)
        self.check_bill(crash)

    def check_result(self, crash: Crash) -> None:
        manifest = crash.retry.manifest
        assert crash.retry.error is None
        assert (manifest["requested"], manifest["delivered"], manifest["billed"]) == (IMAGES, IMAGES, IMAGES)
        assert manifest["failures"] == []
        assert len(landed(manifest)) == IMAGES
        assert landed(manifest) == crash.task.stored()
        assert [(record.state, record.generation) for record in crash.task.records()] == [("landed", 1)] * IMAGES

    def check_bill(self, crash: Crash) -> None:
        bill = crash.task.bill()
        assert bill.per_trace == dict.fromkeys((record.trace_id for record in crash.task.records()), 1)
        assert bill.images == IMAGES

    def check_requests(self, crash: Crash) -> None:
        http, s3, states = Counter(crash.retry.http), Counter(crash.retry.s3), crash.states
        missing = IMAGES - states["landed"]
        deferrals = sum(point.effect == DEFER and point.moment == "after" for point in crash.retry.points)
        assert http["submit"] == IMAGES - crash.billed_before
        assert crash.downloads == s3["PutObject image"] == missing
        assert s3["GetObject ledger"] <= IMAGES * (1 + deferrals)
        assert http["look_up_by_trace_id"] == states["claimed"]
        if not http["submit"]:
            assert http["look_up_by_id"] == (1 if states["submitted"] else 0)


class TestGatewayWithoutLookups:
    @every_point(ONE_ANSWER, TWO_ANSWERS)
    def test_retry_never_pays_again_by_default(
        self, crashed: Callable[[Scenario, Point], Crash], scenario: Scenario, point: Point
    ) -> None:
        crash = crashed(scenario, point)
        bill = crash.task.bill()
        assert bill.images <= IMAGES
        assert Counter(crash.retry.http)["submit"] <= IMAGES - crash.billed_before
        if crash.states["claimed"]:
            assert crash.retry.error == "OutcomeUnknown"
        elif crash.billed_before > crash.stored_before:
            assert crash.retry.error == "PaidImageLost"
        else:
            assert crash.retry.error is None
            assert landed(crash.retry.manifest) == crash.task.stored()
            assert (crash.retry.manifest["billed"], bill.images) == (IMAGES, IMAGES)

    @every_point(RESUBMITTED)
    def test_retry_with_resubmit_always_succeeds_and_pays_again_only_for_unknown_outcomes(
        self, crashed: Callable[[Scenario, Point], Crash], scenario: Scenario, point: Point
    ) -> None:
        crash = crashed(scenario, point)
        assert crash.retry.error is None
        assert crash.retry.manifest["delivered"] == IMAGES
        assert landed(crash.retry.manifest) == crash.task.stored()
        per_call = IMAGES // scenario.occurrences[Failpoint.CLAIM]
        unknown = crash.states["claimed"] + crash.states["answered"]
        assert crash.task.bill().images <= IMAGES + per_call * unknown
        assert Counter(crash.retry.http)["submit"] * per_call == IMAGES - crash.stored_before


IN_ODD_SURROUNDINGS = pytest.mark.parametrize("surroundings", [CAPITALS, ODD_TEXTS])


@pytest.mark.full
@IN_ODD_SURROUNDINGS
class TestGatewayWithTasksInOddSurroundings(TestGatewayWithTasks):
    """The same in a store that capitalizes metadata, and at a gateway whose texts hold surrogates and NUL."""


@pytest.mark.full
@IN_ODD_SURROUNDINGS
class TestGatewayWithoutLookupsInOddSurroundings(TestGatewayWithoutLookups):
    """The same in a store that capitalizes metadata, and at a gateway whose texts hold surrogates and NUL."""


class TestOddSurroundings:
    @pytest.mark.parametrize(
        ("surroundings", "scenario"), [(CAPITALS, ONE_ANSWER), (ODD_TEXTS, ONE_ANSWER), (ODD_TEXTS, WAITED_FOR)]
    )
    def test_do_not_hide_what_a_killed_try_has_put(
        self,
        crashed: Callable[[Scenario, Point], Crash],
        capitalizing: FaultProxy,
        surroundings: str,
        scenario: Scenario,
    ) -> None:
        crash = crashed(scenario, Point(str(Failpoint.PUT_IMAGE), "after", IMAGES))
        assert (crash.task.bill().images, crash.retry.error) == (IMAGES, None)
        assert landed(crash.retry.manifest) == crash.task.stored()
        assert bool(capitalizing.capitalized) or surroundings != CAPITALS
