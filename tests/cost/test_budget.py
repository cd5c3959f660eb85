"""A budget is never exceeded: requests that may cost more are refused before anything is paid."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from decimal import Decimal

import pytest

from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.engine.run import GenerateRun
from airflow_provider_imagegen.exceptions import BudgetExceeded, TaskTimeout
from airflow_provider_imagegen.failpoints import Failpoint
from airflow_provider_imagegen.schemas import Submission
from airflow_provider_imagegen.schemas.batch import BatchSummary
from tests.batch.conftest import prompts
from tests.conftest import BUCKET
from tests.cost.conftest import PRICE, CostHarness
from tests.cost.test_costs import forget_costs
from tests.failures.conftest import DEADLINE, killed_at


class TestFirstTry:
    def test_over_budget_bills_nothing_and_claims_nothing(self, harness: CostHarness) -> None:
        with pytest.raises(BudgetExceeded) as caught:
            harness.attempt_within("0.08", n=3)
        assert "up to 0.09 USD, 0 USD are billed already, and the budget is 0.08 USD" in str(caught.value)
        assert (harness.submits, harness.entries()) == (0, [])

    def test_exactly_within_budget_is_generated(self, harness: CostHarness) -> None:
        assert harness.attempt_within("0.09", n=3).delivered == 3

    def test_without_a_price_is_refused_with_what_to_do(self, harness: CostHarness) -> None:
        with pytest.raises(BudgetExceeded) as caught:
            harness.attempt_within("100", model="nano-banana")
        assert "what it would cost is not known for 'nano-banana'" in str(caught.value)
        assert "Give a price in the connection's extra prices" in str(caught.value)
        assert (harness.submits, harness.entries()) == (0, [])

    def test_of_list_prices_is_kept_where_the_connection_says_so(self, harness: CostHarness) -> None:
        harness.use("openai", "/openai-api")
        harness.prices({}, list_prices=True)
        asked = {"size": "1024x1024", "quality": "low", "n": 2}
        with pytest.raises(BudgetExceeded, match=r"it would cost up to 0\.02182 USD"):
            harness.attempt_within("0.02", **asked)
        manifest = harness.attempt_within("0.022", **asked)
        assert manifest.cost == Decimal("0.021775")

    @pytest.mark.parametrize("reuse", ["task", "always", "never"])
    def test_reads_nothing_more_than_without_a_budget(self, harness: CostHarness, reuse: str) -> None:
        harness.policy = Policy(reuse=reuse)  # type: ignore[arg-type]
        harness.attempt(prompt="whether this store honours conditions is looked at once")
        with harness.s3_calls() as without:
            harness.attempt(prompt="one")
        with harness.s3_calls() as within:
            harness.attempt_within("1", prompt="another", dag_id="another")
        assert within == without


class TestRetry:
    def test_counts_what_was_billed(self, harness: CostHarness) -> None:
        harness.attempt_within("0.05")
        harness.policy = Policy(on_clear="regenerate")
        with pytest.raises(BudgetExceeded, match=r"up to 0.03 USD, 0.03 USD are billed already"):
            harness.attempt_within("0.05", try_number=2, epoch=1)
        assert harness.attempt_within("0.06", try_number=2, epoch=1).billed == 2

    def test_returns_paid_images_regardless_of_the_budget(self, harness: CostHarness) -> None:
        harness.attempt(n=2)
        harness.prices({})
        manifest = harness.attempt_within("0", n=2, try_number=2)
        assert (manifest.reused, manifest.cost) == (2, 2 * PRICE)

    def test_of_something_else_counts_the_first_request(self, harness: CostHarness) -> None:
        harness.attempt(prompt="at 10:00")
        with pytest.raises(BudgetExceeded, match=r"0.03 USD are billed already"):
            harness.attempt_within("0.05", prompt="at 10:05", try_number=2)
        assert harness.attempt_within("0.06", prompt="at 10:05", try_number=2).delivered == 1

    def test_counts_what_is_still_being_generated_and_lands_it(self, harness: CostHarness) -> None:
        harness.emulator.hold()
        with pytest.raises(TaskTimeout):
            harness.attempt_within("0.03", timeout=DEADLINE)
        with pytest.raises(BudgetExceeded, match=r"0.03 USD are billed already"):
            harness.attempt_within("0.05", prompt="another", try_number=2)
        assert harness.emulator.release() == 1
        assert harness.attempt_within("0.03", try_number=3).billed == 1

    def test_of_what_may_have_been_sent_counts_it_once(self, harness: CostHarness) -> None:
        with killed_at(Failpoint.SUBMIT, "before"):
            harness.attempt_within("0.03")
        harness.age_claims()
        assert harness.attempt_within("0.03", try_number=2).billed == 1

    def test_after_a_failure_that_was_not_billed_may_pay(self, harness: CostHarness) -> None:
        harness.emulator.arm("submit", "fail", code="api_error", times=1)
        assert harness.attempt_within("0.06", n=2, on_partial="accept").delivered == 1
        assert harness.attempt_within("0.06", n=2, try_number=2).delivered == 2

    def test_does_not_pay_again_for_a_deleted_image_beyond_its_budget(self, harness: CostHarness) -> None:
        (image,) = harness.attempt().images
        harness.s3.delete_object(Bucket=BUCKET, Key=image.key)
        with pytest.raises(BudgetExceeded, match=r"another would cost 0.03 USD, and 0.02 USD are left"):
            harness.attempt_within("0.05", try_number=2)
        assert harness.submits == 1
        assert harness.attempt_within("0.06", try_number=3).cost == 2 * PRICE

    def test_does_not_guess_what_older_releases_paid(self, harness: CostHarness) -> None:
        harness.attempt(prompt="at 10:00")
        forget_costs(harness)
        with pytest.raises(BudgetExceeded, match="what earlier tries were billed is not known"):
            harness.attempt_within("100", prompt="at 10:05", try_number=2)

    def test_lists_once_and_reads_only_what_is_there(self, harness: CostHarness) -> None:
        harness.emulator.arm("submit", "fail", code="api_error", times=1)
        harness.attempt(n=2, on_partial="accept")
        work: GenerateRun = harness.paying(harness.work(n=2, try_number=2), "1")
        with harness.s3_calls() as calls:
            asyncio.run(work.cost_estimator.reserve(work.options.budget, work._calls()))
        assert calls == {"ListObjectsV2": 1, "GetObject": 2}


class TestReuse:
    def test_never_counts_every_earlier_try(self, harness: CostHarness) -> None:
        harness.policy = Policy(reuse="never")
        harness.attempt_within("0.07")
        harness.attempt_within("0.07", try_number=2)
        with pytest.raises(BudgetExceeded, match=r"0.06 USD are billed already"):
            harness.attempt_within("0.07", try_number=3)

    def test_always_costs_nothing_what_another_has_paid_for(self, harness: CostHarness) -> None:
        harness.policy = Policy(reuse="always")
        harness.attempt()
        manifest = harness.attempt_within("0", dag_id="another")
        assert (manifest.reused, manifest.cost) == (1, 0)
        with pytest.raises(BudgetExceeded, match=r"up to 0.03 USD, 0 USD are billed already"):
            harness.attempt_within("0.02", dag_id="another", prompt="not there yet")


class TestBatch:
    def test_counts_all_rows_before_the_first_is_sent(self, harness: CostHarness) -> None:
        rows = [*prompts(3), {"prompt": "four", "n": 2}]
        with pytest.raises(BudgetExceeded, match=r"up to 0.15 USD"):
            harness.run_within("0.14", rows)
        assert (harness.submits, harness.entries()) == (0, [])
        assert harness.run_within("0.15", rows).landed == 4

    def test_counts_equal_rows_once(self, harness: CostHarness) -> None:
        assert harness.run_within("0.03", ["an owl"] * 5).landed == 5
        harness.policy = Policy(reuse="never")
        with pytest.raises(BudgetExceeded, match=r"up to 0.15 USD"):
            harness.run_within("0.14", ["a kite"] * 5)

    def test_names_the_models_without_a_price(self, harness: CostHarness) -> None:
        rows = [{"prompt": "p", "model": model, "size": "1024x1024"} for model in ("gpt-image-1", "flux", "imagine")]
        with pytest.raises(BudgetExceeded, match="not known for 'flux', 'imagine'"):
            harness.run_within("9", rows)

    @pytest.mark.parametrize("reuse", ["task", "always"])
    def test_retry_pays_for_what_is_missing(self, harness: CostHarness, reuse: str) -> None:
        harness.policy = Policy(reuse=reuse)  # type: ignore[arg-type]
        harness.emulator.arm("submit", "fail", code="api_error", times=1)
        harness.run_within("0.12", prompts(4), on_partial="accept")
        with pytest.raises(BudgetExceeded, match=r"up to 0.03 USD, 0.09 USD are billed already"):
            harness.run_within("0.11", prompts(4), try_number=2)
        assert harness.run_within("0.12", prompts(4), try_number=2).cost == 4 * PRICE

    def test_never_counts_the_rows_of_every_earlier_try(self, harness: CostHarness) -> None:
        harness.policy = Policy(reuse="never")
        harness.run(prompts(2))
        with pytest.raises(BudgetExceeded, match=r"up to 0.06 USD, 0.06 USD are billed already"):
            harness.run_within("0.11", prompts(2), try_number=2)

    def test_budget_holds_over_a_deferral(self, harness: CostHarness, grace: Callable[[float], None]) -> None:
        grace(0.0)
        harness.emulator.hold()
        rows = ["an owl", "a kite", "an owl", "a kite"]
        submission = asyncio.run(harness.paying(harness.batch(rows, deferrable=True), "0.06").begin())
        assert isinstance(submission, Submission)
        assert harness.emulator.release() == len(submission.open) == 2
        work = harness.paying(harness.batch(rows, deferrable=True), "0.06")
        summary = asyncio.run(work.resume(submission, gave_up=False))
        assert isinstance(summary, BatchSummary)
        assert (summary.landed, summary.cost, harness.billed) == (4, 2 * PRICE, 2)

    @pytest.mark.parametrize("reuse", ["task", pytest.param("always", marks=pytest.mark.full), "never"])
    def test_budget_holds_over_many_deferrals(
        self, harness: CostHarness, grace: Callable[[float], None], reuse: str
    ) -> None:
        harness.policy = Policy(reuse=reuse)  # type: ignore[arg-type]
        result = self._deferred(harness, grace)
        while isinstance(result, Submission):
            result = self._resumed(harness, result, "0.18")
        assert (result.landed, result.cost, harness.billed) == (6, 6 * PRICE, 6)

    def test_rows_are_not_sent_once_the_others_cost_more_than_expected(
        self, harness: CostHarness, grace: Callable[[float], None]
    ) -> None:
        submission = self._deferred(harness, grace)
        with pytest.raises(BudgetExceeded, match=r"the budget is 0\.17 USD") as caught:
            self._resumed(harness, submission, "0.17")
        assert isinstance(caught.value.result, BatchSummary)
        assert (caught.value.result.landed, caught.value.result.failed, harness.billed) == (2, 4, 2)

    def _deferred(self, harness: CostHarness, grace: Callable[[float], None]) -> Submission | BatchSummary:
        grace(0.0)
        harness.emulator.hold()
        batch = harness.batch(prompts(6), deferrable=True, max_in_flight=2)
        return asyncio.run(harness.paying(batch, "0.18").begin())

    def _resumed(self, harness: CostHarness, submission: object, budget: str) -> Submission | BatchSummary:
        assert isinstance(submission, Submission)
        assert harness.emulator.release() == len(submission.open) == 2
        harness.emulator.hold()
        batch = harness.batch(prompts(6), deferrable=True, max_in_flight=2)
        return asyncio.run(harness.paying(batch, budget).resume(submission, gave_up=False))


class TestCurrency:
    def test_is_the_connection_s(self, harness: CostHarness) -> None:
        harness.settings = dataclasses.replace(harness.settings, currency="EUR")
        with pytest.raises(BudgetExceeded, match=r"up to 0.03 EUR, 0 EUR are billed already"):
            harness.attempt_within("0.01")
