"""A dry run validates everything, estimates the cost, and sends, claims and writes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from airflow_provider_imagegen.catalog.price_list import PriceList
from airflow_provider_imagegen.engine.budget import estimate_cost
from airflow_provider_imagegen.engine.dry_run import MAX_SHOWN, BatchDryRun, DryRun, DryRunPlanner, Estimate, Plan
from airflow_provider_imagegen.engine.plan import plan
from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.exceptions import (
    BudgetExceeded,
    DestinationError,
    InvalidRequest,
    InvalidRows,
    ObjectExists,
)
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.ledger.models import Attempt
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest, ImageSource, Manifest
from airflow_provider_imagegen.schemas.batch import BatchSummary
from tests.batch.conftest import prompts
from tests.conftest import BUCKET
from tests.cost.conftest import CostHarness
from tests.examples import examples

XCOM_BYTES = 48 * 1024


@pytest.fixture
def nothing_happens(harness: CostHarness) -> Iterator[None]:
    """See that nothing was sent, and that S3 was only read."""
    with harness.s3_calls() as calls:
        yield
    assert not [name for name in calls if name.startswith(("Put", "Delete", "Copy", "Create"))]
    assert harness.submits == 0


@pytest.mark.usefixtures("nothing_happens")
class TestSingle:
    def test_shows_the_calls_and_what_they_would_cost(self, harness: CostHarness) -> None:
        result = harness.dry_run(n=2, size="1024x1024").model_dump(mode="json")
        assert (result["version"], result["dry_run"], result["gateway"]) == (1, True, "acedatacloud")
        assert (result["calls"], result["requested"]) == (2, 2)
        assert result["estimate"] == {
            "to_pay": 0.06,
            "to_pay_at_least": 0.06,
            "calls_to_pay": 2,
            "unpriced_models": [],
            "billed": 0.0,
            "billed_at_least": 0.0,
            "budget": None,
            "currency": "USD",
        }
        first = result["requests"][0]
        assert (first["method"], first["url"]) == ("POST", f"{harness.settings.base_url}/openai/images/generations")
        assert (first["is_paid"], first["cost"], first["index"]) == (True, 0.03, 0)
        sent = {"prompt": "a lighthouse", "model": "gpt-image-1", "size": "1024x1024", "async": True}
        assert {name: first["body"][name] for name in sent} == sent

    def test_has_the_fields_of_a_manifest_in_which_nothing_landed(self, harness: CostHarness) -> None:
        result = harness.dry_run(n=2).model_dump(mode="json")
        assert Manifest.model_fields.keys() < result.keys()
        names = ("model", "requested", "delivered", "billed", "images", "failures", "cost", "manifest_uri")
        assert [result[name] for name in names] == ["gpt-image-1", 2, 0, 0, [], [], 0.0, ""]

    def test_unknown_price_is_null(self, harness: CostHarness) -> None:
        result = harness.dry_run(model="nano-banana").model_dump(mode="json")
        assert (result["estimate"]["to_pay"], result["estimate"]["unpriced_models"]) == (None, ["'nano-banana'"])
        assert result["requests"][0]["cost"] is None

    def test_holds_no_secret(self, harness: CostHarness) -> None:
        headers = {"x-team-key": "hush-hush-hush"}
        harness.settings = dataclasses.replace(harness.settings, headers=headers)
        extra = {"reference": "https://cdn.example/a.png?sig=quiet-quiet", "echo": harness.settings.token}
        result = harness.dry_run(
            callback_url="https://hook.example/secret-path", extra=extra, user="somebody@example.com"
        ).model_dump_json()
        for secret in (harness.settings.token, "hush-hush", "quiet-quiet", "secret-path", "somebody"):
            assert secret not in result

    def test_refuses_what_the_task_would_refuse(self, harness: CostHarness) -> None:
        with pytest.raises(InvalidRequest, match="size='17x17'"):
            harness.dry_run(size="17x17")
        with pytest.raises(BudgetExceeded, match=r"up to 0\.03 USD"):
            harness.dry_run("0.02")
        assert harness.dry_run("0.03").estimate.budget == Decimal("0.03")

    def test_refuses_a_bucket_that_is_not_there(self, harness: CostHarness) -> None:
        ledger = Ledger(harness.s3, "no-such-bucket", "ledger")
        work = dataclasses.replace(harness.work(), ledger=ledger)
        with pytest.raises(DestinationError, match="no-such-bucket"):
            asyncio.run(work.dry_run())


@pytest.mark.usefixtures("nothing_happens")
class TestEdit:
    SOURCE = ImageSource(content=b"\x89PNG not looked at here", name="a.png")

    def test_in_parts_is_shown_with_its_sources(self, settings: GatewaySettings, harness: CostHarness) -> None:
        request = EditRequest(prompt="p", model="gpt-image-1", images=(self.SOURCE,))
        gateway, attempt = gateway_for(harness.settings), Attempt(dag_id="d", task_id="t", run_id="r")
        calls = plan(request, gateway, attempt, "task")
        planner = DryRunPlanner(gateway, harness.ledger, harness.work().options, None)  # type: ignore[arg-type]
        (told,) = planner._shown(calls, estimate_cost(calls, {}, gateway.settings.price_list))
        assert told["url"] == f"{harness.settings.base_url}/openai/images/edits"
        assert told["body"]["images"] == [self.SOURCE.identity]  # type: ignore[index, call-overload]


class TestAfterwards:
    def test_what_is_paid_for_costs_nothing_more(self, harness: CostHarness) -> None:
        harness.attempt()
        result = harness.dry_run(n=2, try_number=2)
        assert [request["cost"] for request in result.requests] == [0.0, 0.03]
        assert [request["is_paid"] for request in result.requests] == [False, True]
        assert (result.estimate.to_pay, result.estimate.billed) == (Decimal("0.03"), Decimal("0.03"))

    def test_what_others_paid_for_costs_nothing(self, harness: CostHarness) -> None:
        harness.policy = Policy(reuse="always")
        harness.attempt()
        result = harness.dry_run(dag_id="another")
        assert (result.estimate.calls_to_pay, result.estimate.to_pay, result.estimate.billed) == (0, 0, 0)

    def test_an_existing_object_is_reported(self, harness: CostHarness) -> None:
        harness.attempt()
        work = harness.work(prompt="another")
        options = dataclasses.replace(work.destination.options, replace=False)
        work = dataclasses.replace(work, destination=dataclasses.replace(work.destination, options=options))
        with pytest.raises(ObjectExists):
            asyncio.run(work.dry_run())


@pytest.mark.usefixtures("nothing_happens")
class TestBatch:
    def dry_run(self, harness: CostHarness, requests: object, **ask: Any) -> BatchDryRun:
        return asyncio.run(harness.batch(requests, **ask).dry_run())

    def test_counts_all_rows_and_shows_the_first(self, harness: CostHarness) -> None:
        result = self.dry_run(harness, prompts(500))
        assert (result.rows, result.calls, result.requested, len(result.requests)) == (500, 500, 500, MAX_SHOWN)
        assert result.requests[1]["key"] == "00001"
        assert BatchSummary.model_fields.keys() < result.model_dump().keys()
        assert (result.landed, result.images, result.billed, result.manifest_uri) == (0, 0, 0, "")
        assert result.estimate.to_pay == Decimal("15")

    def test_equal_rows_cost_once(self, harness: CostHarness) -> None:
        result = self.dry_run(harness, ["an owl"] * 3)
        assert [request["cost"] for request in result.requests] == [0.03, 0.0, 0.0]
        assert result.estimate.to_pay == Decimal("0.03")

    def test_wrong_rows_are_refused_or_counted(self, harness: CostHarness) -> None:
        rows = ["an owl", {"prompt": "wrong", "n": 99}]
        with pytest.raises(InvalidRows):
            self.dry_run(harness, rows)
        result = self.dry_run(harness, rows, on_invalid="skip")
        assert (result.rows, result.skipped, result.calls) == (2, 1, 1)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(["😀" * 5000, "\x00" * 5000])
JSON = st.recursive(st.integers() | TEXTS, lambda one: st.lists(one, max_size=9) | st.dictionaries(TEXTS, one))


@hypothesis_settings(max_examples=examples(40))
@given(st.lists(TEXTS.filter(str.strip), min_size=1, max_size=40), st.dictionaries(st.text(min_size=30), JSON), TEXTS)
def test_fits_into_an_xcom_for_any_request(texts: list[str], extra: dict[str, Any], key: str) -> None:
    gateway = gateway_for(GatewaySettings(base_url="https://api.acedata.cloud", token="t" * 20))
    attempt = Attempt(dag_id="d", task_id="t", run_id="r")
    requests = [ImageRequest(prompt=text, model=text[:300], extra=extra) for text in texts]
    calls = [call for request in requests for call in plan(request, gateway, attempt, "task", key[:200])]
    estimate = estimate_cost(calls, {}, PriceList())
    planner = DryRunPlanner(gateway, Ledger(None, BUCKET, "l"), None, None)  # type: ignore[arg-type]
    told = Plan(
        gateway="acedatacloud",
        destination="s3://" + "b" * 63 + "/" + "雪" * 300,
        calls=len(calls),
        requested=len(calls),
        requests=planner._shown(calls, estimate),
        estimate=Estimate.of(estimate, None, "USD"),
    )
    for result in (DryRun.of(told, requests[0], "f" * 64), BatchDryRun.of(told, 100_000, 100_000)):
        assert len(json.dumps(result.model_dump(mode="json"))) < XCOM_BYTES
