"""The manifest contains the cost of images, and null for unknown costs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.failpoints import Failpoint
from airflow_provider_imagegen.schemas import Manifest, Submission
from tests.batch.conftest import prompts
from tests.conftest import BUCKET
from tests.cost.conftest import PRICE, CostHarness
from tests.failures.conftest import DEADLINE, killed_at, short_grace  # noqa: F401

TOKEN_PRICES = {"input_tokens": "5", "input_image_tokens": "10", "output_tokens": "40"}


def costs(manifest: Manifest) -> list[Decimal | None]:
    return [image.cost for image in manifest.images]


def forget_costs(harness: CostHarness) -> None:
    """Leave the ledger as an older release would have."""
    prefix = f"ledgers/{harness.run_id}/"
    for entry in harness.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
        stored = harness.s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        if stored.startswith(b"{"):
            record = json.loads(stored)
            for name in ("cost", "cost_before", "estimate", "currency"):
                del record[name]
            record["images"] = [
                {name: value for name, value in image.items() if name not in {"cost", "usage"}}
                for image in record["images"]
            ]
            harness.s3.put_object(Bucket=BUCKET, Key=entry["Key"], Body=json.dumps(record).encode())


class TestPerImage:
    def test_known_price_is_in_the_manifest_and_in_s3(self, harness: CostHarness) -> None:
        manifest = harness.attempt(n=2)
        assert costs(manifest) == [PRICE, PRICE]
        assert (manifest.cost, manifest.cost_at_least, manifest.currency) == (2 * PRICE, 2 * PRICE, "USD")
        key = manifest.manifest_uri.removeprefix(f"s3://{BUCKET}/")
        stored = json.loads(harness.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        assert (stored["cost"], stored["images"][1]["cost"]) == (0.06, 0.03)
        assert [entry.record.cost for entry in harness.entries()] == [PRICE, PRICE]

    def test_unknown_price_is_null_and_never_nothing(self, harness: CostHarness) -> None:
        manifest = harness.attempt(model="nano-banana").model_dump(mode="json")
        assert (manifest["cost"], manifest["cost_at_least"], manifest["billed"]) == (None, 0.0, 1)
        assert manifest["images"][0]["cost"] is None

    def test_currency_is_the_connection_s(self, harness: CostHarness) -> None:
        harness.settings = dataclasses.replace(harness.settings, currency="EUR")
        assert harness.attempt().currency == "EUR"

    def test_what_failed_costs_nothing(self, harness: CostHarness) -> None:
        harness.emulator.arm("submit", "fail", code="api_error", times=1)
        manifest = harness.attempt(n=2, on_partial="accept")
        assert (manifest.delivered, manifest.cost) == (1, PRICE)

    def test_what_may_be_billed_yet_is_not_known(self, harness: CostHarness) -> None:
        harness.emulator.hold(times=1)
        manifest = harness.attempt(n=2, on_partial="accept", timeout=DEADLINE)
        assert (manifest.delivered, manifest.billed) == (1, 1)
        assert (manifest.cost, manifest.cost_at_least) == (None, PRICE)


class TestPerToken:
    @pytest.fixture(autouse=True)
    def openai(self, harness: CostHarness) -> None:
        harness.use("openai", "/openai-api")
        harness.prices({"gpt-image-1": TOKEN_PRICES})

    def test_is_what_was_used(self, harness: CostHarness) -> None:
        manifest = harness.attempt(size="1024x1024", quality="low")
        assert manifest.usage == {"input_tokens": 3, "output_tokens": 272, "total_tokens": 275}
        assert manifest.cost == Decimal("0.010895")

    def test_images_of_one_response_have_their_shares(self, harness: CostHarness) -> None:
        manifest = harness.attempt(n=3, size="1024x1024", quality="low")
        assert harness.submits == 1
        assert sum(cost for cost in costs(manifest) if cost is not None) == manifest.cost
        assert max(costs(manifest)) - min(costs(manifest)) <= Decimal("0.000000001")  # type: ignore[type-var, operator]
        for name, total in manifest.usage.items():
            assert sum(image.usage[name] for image in manifest.images) == total

    def test_is_known_to_whoever_takes_up_the_images(self, harness: CostHarness) -> None:
        with killed_at(Failpoint.RECORD, "before", occurrence=2):
            harness.attempt(n=2, size="1024x1024", quality="low")
        manifest = harness.attempt(n=2, size="1024x1024", quality="low", try_number=2)
        assert (harness.submits, manifest.billed) == (1, 2)
        assert manifest.cost == 2 * Decimal("0.0108875")
        assert costs(manifest) == [Decimal("0.0108875")] * 2


class TestReused:
    def test_by_a_retry_is_on_the_bill_once(self, harness: CostHarness) -> None:
        harness.attempt()
        manifest = harness.attempt(try_number=2)
        assert (manifest.billed, manifest.reused, manifest.cost) == (1, 1, PRICE)
        assert costs(manifest) == [PRICE]

    def test_by_another_task_is_not_paid_again(self, harness: CostHarness) -> None:
        harness.policy = Policy(reuse="always")
        harness.attempt()
        manifest = harness.attempt(dag_id="another")
        assert (manifest.billed, manifest.reused, manifest.cost) == (0, 1, 0)
        assert costs(manifest) == [PRICE]

    def test_generations_add_up(self, harness: CostHarness) -> None:
        harness.attempt()
        harness.policy = Policy(on_clear="regenerate")
        harness.prices({"*": {"per_image": "0.05"}})
        manifest = harness.attempt(try_number=2, epoch=1)
        assert (manifest.billed, manifest.cost) == (2, Decimal("0.08"))

    def test_of_another_currency_has_unknown_cost(self, harness: CostHarness) -> None:
        harness.attempt()
        harness.settings = dataclasses.replace(harness.settings, currency="EUR")
        manifest = harness.attempt(try_number=2)
        assert (manifest.cost, costs(manifest)) == (None, [None])


class TestOlderReleases:
    def test_left_records_without_costs(self, harness: CostHarness) -> None:
        harness.attempt()
        forget_costs(harness)
        manifest = harness.attempt(try_number=2)
        assert (manifest.billed, manifest.cost, manifest.reused) == (1, None, 1)

    def test_left_triggers_without_costs(self, harness: CostHarness) -> None:
        submission = self._submitted(harness)
        left = submission.model_dump(mode="json", exclude={"cost", "cost_at_least"})
        work = harness.work(deferrable=False)
        manifest = self._landed(harness, work, Submission.model_validate(left))
        assert manifest.cost == PRICE
        manifest = self._landed(harness, work, Submission.model_validate(left | {"billed": 1}))
        assert manifest.cost is None

    def _submitted(self, harness: CostHarness) -> Submission:
        work = dataclasses.replace(harness.work(deferrable=True), waits=False)
        result = asyncio.run(work.begin())
        assert isinstance(result, Submission)
        return result

    def _landed(self, harness: CostHarness, work: Any, submission: Submission) -> Manifest:
        async def land() -> Any:
            async with work._job(work.options) as job:
                tasks = await job.wait(submission, submission.deadline)
                return await job.land(submission, tasks)

        manifest = asyncio.run(land())
        assert isinstance(manifest, Manifest)
        return manifest


class TestBatch:
    def test_rows_and_summary_say_what_they_cost(self, harness: CostHarness) -> None:
        summary = harness.run([*prompts(2), {"prompt": "two", "n": 2}])
        assert (summary.cost, summary.currency) == (4 * PRICE, "USD")
        assert [line["cost"] for line in harness.lines()] == [0.03, 0.03, 0.06]

    def test_equal_rows_are_on_the_bill_once(self, harness: CostHarness) -> None:
        summary = harness.run(["an owl"] * 3)
        assert (summary.billed, summary.cost) == (1, PRICE)
        assert sorted(line["cost"] for line in harness.lines()) == [0.0, 0.0, 0.03]
        assert [line["images"][0]["cost"] for line in harness.lines()] == [0.03] * 3

    def test_one_unknown_row_leaves_the_sum_unknown(self, harness: CostHarness) -> None:
        summary = harness.run(["an owl", {"prompt": "a kite", "model": "nano-banana", "size": "1024x1024"}])
        assert (summary.cost, summary.cost_at_least) == (None, PRICE)
        assert harness.lines()[1]["cost"] is None

    def test_refused_rows_cost_nothing(self, harness: CostHarness) -> None:
        rows = ["an owl", "[[moderation]]", {"prompt": "wrong", "n": 99}]
        summary = harness.run(rows, on_invalid="skip", on_moderation="skip")
        assert summary.cost == PRICE
        assert [line["cost"] for line in harness.lines()] == [0.03, 0.0, 0.0]

    def test_retry_counts_what_its_first_try_paid(self, harness: CostHarness) -> None:
        harness.emulator.arm("submit", "fail", code="api_error", times=1)
        first = harness.run(prompts(3), on_partial="accept")
        second = harness.run(prompts(3), try_number=2)
        assert (first.cost, second.cost, second.reused) == (2 * PRICE, 3 * PRICE, 2)

    def test_is_kept_over_a_deferral(self, harness: CostHarness, grace: Callable[[float], None]) -> None:
        grace(0.0)
        harness.emulator.hold()
        result: Any = harness.defer(prompts(6), max_in_flight=3)
        assert harness.emulator.release() == len(result.open) == 3
        while isinstance(result, Submission):
            result = harness.resume(prompts(6), result, max_in_flight=3)
        assert (result.landed, result.cost) == (6, 6 * PRICE)
