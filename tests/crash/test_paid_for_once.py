"""Paid images are reused by later tries, clears, concurrent tries and other DAGs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash.crash_runner import Task, landed
from tests.crash.tries import PUSH_XCOM, Point

NewTask = Callable[..., Task]
RACES = pytest.mark.parametrize("race", [0, *(pytest.param(number, marks=pytest.mark.full) for number in range(1, 4))])
BEFORE_XCOM = Point(PUSH_XCOM, "before")


class TestKilledAfterLandingAndBeforeTheXCom:
    @pytest.mark.parametrize("gateway", ["acedatacloud", "openai"])
    def test_retry_sends_nothing_and_returns_the_manifest(self, new_task: NewTask, gateway: str) -> None:
        task = new_task(gateway=gateway, model="gpt-image-1")
        assert task.attempt(kill=BEFORE_XCOM).killed
        stored = task.stored()
        retry = task.attempt()
        assert retry.error is None
        assert retry.http == ()
        assert "PutObject image" not in retry.s3
        assert landed(retry.manifest) == stored == task.stored()
        assert [retry.manifest[name] for name in ("requested", "delivered", "billed", "reused")] == [2, 2, 2, 2]
        assert task.bill().images == 2


class TestTwoProcessesAtOnce:
    @pytest.mark.parametrize("deferrable", [True, False])
    @RACES
    def test_one_submits_the_other_attaches_both_end_with_the_same_images(
        self, new_task: NewTask, race: int, deferrable: bool
    ) -> None:
        task = new_task(model="gpt-image-1", deferrable=deferrable)
        task.emulator.change(latency=0.2)
        zombie, retry = task.runner.run(task.next_try(), task.next_try())
        assert (zombie.error, retry.error) == (None, None)
        assert [*zombie.http, *retry.http].count("submit") == 2
        assert task.bill().per_trace == dict.fromkeys((record.trace_id for record in task.records()), 1)
        assert landed(zombie.manifest) == landed(retry.manifest) == task.stored()
        assert {record.state for record in task.records()} == {"landed"}

    @RACES
    def test_gateway_without_lookup_is_paid_once(self, new_task: NewTask, race: int) -> None:
        task = new_task(gateway="openai", model="gpt-image-1")
        reports = task.runner.run(task.next_try(), task.next_try())
        assert [report.http.count("submit") for report in reports] in ([0, 1], [1, 0])
        winner, loser = sorted(reports, key=lambda report: report.http.count("submit"), reverse=True)
        assert winner.error is None
        assert loser.error in {"OutcomeUnknown", "PaidImageLost", None}
        assert landed(winner.manifest) == task.stored()
        assert task.bill().images == 2

    def test_several_at_once_after_a_crash_submit_once(self, new_task: NewTask) -> None:
        task = new_task(model="gpt-image-1")
        assert task.attempt(kill=Point("submit", "before", 2)).killed
        task.let_time_pass()
        reports = task.runner.run(*(task.next_try() for _ in range(3)))
        assert [report.error for report in reports] == [None] * 3
        assert set(task.bill().per_trace.values()) == {1}
        assert task.bill().images == 2
        assert all(landed(report.manifest) == task.stored() for report in reports)


class TestClearedAfterSuccess:
    def test_nothing_is_billed_and_the_images_are_the_same(self, new_task: NewTask) -> None:
        task = new_task(model="gpt-image-1")
        first = task.attempt()
        cleared = task.attempt(max_tries=2)
        assert cleared.http == ()
        assert landed(cleared.manifest) == landed(first.manifest) == task.stored()
        assert task.bill().images == 2

    def test_regenerate_pays_once_for_new_ones_whatever_dies(self, new_task: NewTask) -> None:
        task = new_task(model="gpt-image-1", on_clear="regenerate")
        first = task.attempt()
        assert task.attempt(max_tries=2, kill=BEFORE_XCOM).killed
        retry = task.attempt(max_tries=2)
        assert retry.http == ()
        assert landed(retry.manifest) == task.stored()
        assert set(landed(retry.manifest).values()).isdisjoint(landed(first.manifest).values())
        states = [(record.item, record.generation, record.state) for record in task.records()]
        assert states == [(0, 1, "landed"), (0, 2, "landed"), (1, 1, "landed"), (1, 2, "landed")]
        assert (retry.manifest["billed"], task.bill().images) == (4, 4)

    def test_regenerate_without_a_clear_pays_nothing(self, new_task: NewTask) -> None:
        task = new_task(model="gpt-image-1", on_clear="regenerate")
        assert task.attempt(kill=BEFORE_XCOM).killed
        assert task.attempt().http == ()
        assert task.bill().images == 2

    def test_an_image_that_a_cleared_task_landed_for_its_first_try_is_not_generated_again_by_its_retry(
        self, new_task: NewTask
    ) -> None:
        task = new_task(model="gpt-image-1", on_clear="regenerate")
        assert task.attempt(kill=Point("put_image", "before")).killed
        assert task.attempt(max_tries=2, kill=BEFORE_XCOM).killed
        retry = task.attempt(max_tries=2)
        assert retry.http == ()
        assert task.bill().images == 2


class TestReuseAlways:
    def test_another_dag_gets_copies_without_paying(self, new_task: NewTask) -> None:
        first = new_task(model="gpt-image-1", reuse="always")
        made = first.attempt()
        second = new_task(
            dag_id="another", model="gpt-image-1", reuse="always", ledger_key=first.arguments["ledger_key"]
        )
        reused = second.attempt()
        assert reused.http == ()
        assert [reused.manifest[name] for name in ("requested", "delivered", "billed", "reused")] == [2, 2, 0, 2]
        assert landed(reused.manifest) == second.stored()
        assert (
            sorted(second.stored().values())
            == sorted(first.stored().values())
            == sorted(landed(made.manifest).values())
        )
        assert first.bill().images == 2

    def test_another_dag_attaches_to_what_a_killed_try_had_submitted(self, new_task: NewTask) -> None:
        first = new_task(model="gpt-image-1", reuse="always")
        assert first.attempt(kill=Point("submit", "after", 2)).killed
        first.let_time_pass()
        second = new_task(
            dag_id="another", model="gpt-image-1", reuse="always", ledger_key=first.arguments["ledger_key"]
        )
        fetched, retry = second.attempt(), first.attempt()
        assert (fetched.manifest["billed"], retry.manifest["billed"]) == (0, 2)
        assert "submit" not in retry.http
        assert sorted(first.stored().values()) == sorted(second.stored().values())
        assert first.bill().images == 2


class TestReuseNever:
    def test_every_try_pays(self, new_task: NewTask) -> None:
        task = new_task(model="gpt-image-1", reuse="never")
        assert task.attempt(kill=BEFORE_XCOM).killed
        assert task.attempt().http.count("submit") == 2
        assert task.bill().images == 4
