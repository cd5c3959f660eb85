"""The cost to pay and the billed cost follow from the calls and their ledger records."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.catalog.price_list import PriceList
from airflow_provider_imagegen.catalog.prices import read_prices
from airflow_provider_imagegen.engine.budget import Budget, CostEstimate, PastGeneration, estimate_cost
from airflow_provider_imagegen.engine.estimate import cost_of
from airflow_provider_imagegen.engine.plan import PlannedCall
from airflow_provider_imagegen.engine.recovery import Action, Find, Hand, Renew, Stop
from airflow_provider_imagegen.exceptions import BudgetExceeded, OutcomeUnknown
from airflow_provider_imagegen.ledger.models import LedgerKey
from airflow_provider_imagegen.money import NOTHING, UNKNOWN, Cost
from airflow_provider_imagegen.schemas import ImageRequest
from tests.unit.test_resume import record

PRICES = PriceList(read_prices({"m": {"per_image": "0.04"}}))
PAID = Cost.of(Decimal("0.03"))
IN_USD: dict[str, Any] = {"currency": "USD", "estimate": Decimal("0.05")}
KEYS = [LedgerKey("scope", item, "f") for item in range(3)]
STOP = Stop(OutcomeUnknown("no outcome"))
PAST = st.builds(
    PastGeneration,
    st.sampled_from([Hand(), STOP, Renew(), Find()]),
    st.booleans(),
    st.none() | st.just(NOTHING) | st.just(PAID),
)


def call(item: int = 0, model: str | None = "m", n: int = 1) -> PlannedCall:
    return PlannedCall(KEYS[item], item, ImageRequest(prompt="p", model=model, n=n))


def past(action: Action, is_ours: bool, cost: Cost | None) -> PastGeneration:
    return PastGeneration(action, is_ours, cost)


def estimate(calls: list[PlannedCall], *generations: PastGeneration, of: int = 0) -> CostEstimate:
    """Return the estimate where one call has these generations."""
    return estimate_cost(calls, {(KEYS[of], number): found for number, found in enumerate(generations, 1)}, PRICES)


class TestWhatIsToBePaid:
    def test_is_everything_where_nothing_was_paid(self) -> None:
        estimated = estimate([call(0), call(1, n=3)])
        assert (estimated.to_pay.total, len(estimated.generations), estimated.billed) == (Decimal("0.16"), 2, NOTHING)

    def test_is_equal_calls_once(self) -> None:
        equal = estimate([call(0), call(0)])
        assert (equal.calls, equal.images, len(equal.generations)) == (2, 2, 1)
        assert equal.to_pay.total == Decimal("0.04")

    @pytest.mark.parametrize(
        ("findings", "generation", "billed"),
        [
            ([past(Hand(), True, PAID)], None, "0.03"),
            ([past(Hand(), False, PAID)], None, "0"),
            ([past(Hand(), True, None)], None, "0.04"),
            ([past(Renew(), True, NOTHING)], 2, "0"),
            ([past(Renew(), True, PAID)], 2, "0.03"),
            ([past(Renew(), True, PAID), past(Hand(), True, PAID)], None, "0.06"),
            ([past(Find(), True, None)], 1, "0"),
            ([past(Renew(), True, PAID), past(Find(), True, PAID)], 2, "0.03"),
            ([past(STOP, True, None)], None, "0.04"),
            ([past(STOP, True, PAID), past(Renew(), True, NOTHING)], 3, "0.03"),
        ],
    )
    def test_follows_from_the_generations(
        self, findings: list[PastGeneration], generation: int | None, billed: str
    ) -> None:
        found = estimate([call()], *findings)
        assert found.generations.get(KEYS[0]) == generation
        assert found.to_pay.total == (Decimal("0.04") if generation else 0)
        assert found.billed.total == Decimal(billed)

    def test_has_no_price_where_the_model_has_none(self) -> None:
        estimated = estimate([call(0), call(1, model="other"), call(2, model=None)])
        assert estimated.to_pay == Cost(Decimal("0.04"), is_whole=False)
        assert estimated.unpriced == {"'other'", "the gateway's usual model"}

    def test_without_a_price_needs_none_where_it_is_paid_for(self) -> None:
        estimated = estimate([call(0, model="other")], past(Hand(), True, PAID))
        assert (estimated.to_pay, estimated.unpriced, estimated.billed) == (NOTHING, set(), PAID)

    def test_counts_what_else_the_task_instance_asked_for(self) -> None:
        estimated = estimate([call(0)], past(Hand(), True, PAID), of=1)
        assert (estimated.to_pay.total, estimated.billed.total) == (Decimal("0.04"), Decimal("0.03"))

    def test_does_not_know_what_a_record_does_not_say(self) -> None:
        estimated = estimate([call(0)], past(Hand(), True, None), of=1)
        assert estimated.billed == UNKNOWN

    @given(st.lists(PAST, max_size=5), st.integers(1, 3))
    def test_is_at_most_one_generation_of_each_call(self, findings: list[PastGeneration], calls: int) -> None:
        found = estimate([call(item) for item in range(calls)], *findings)
        assert found.to_pay.known == len(found.generations) * Decimal("0.04")
        assert found.billed.known <= len(findings) * Decimal("0.04")
        generation = found.generations.get(KEYS[0])
        assert generation is None or 1 <= generation <= len(findings) + 1


class TestWhatARecordCosts:
    @pytest.mark.parametrize(
        ("state", "fields", "cost"),
        [
            ("failed", IN_USD, NOTHING),
            ("claimed", IN_USD, Cost(Decimal("0.05"))),
            ("submitted", IN_USD | {"task_id": "t"}, Cost(Decimal("0.05"))),
            ("landed", IN_USD | {"billed": 1, "cost": Decimal("0.04")}, Cost(Decimal("0.04"))),
            ("answered", IN_USD | {"billed": 2, "cost": Decimal("0.04")}, Cost(Decimal("0.04"))),
            ("landed", IN_USD | {"billed": 1}, Cost(Decimal("0.05"))),
            ("landed", {"billed": 1}, None),
            ("landed", {"billed": 1, "currency": "EUR", "cost": Decimal("0.04")}, None),
            ("submitted", {"task_id": "t"}, None),
            ("waiting", IN_USD, NOTHING),
        ],
    )
    def test_is_what_it_did_else_what_was_expected(self, state: str, fields: dict[str, Any], cost: Cost | None) -> None:
        assert cost_of(record(state, **fields), "USD") == cost

    def test_of_an_older_release_is_read(self) -> None:
        old = record("landed", billed=1, billed_before=1)
        assert (old.cost_in("USD"), old.cost_before_in("USD")) == (UNKNOWN, UNKNOWN)
        assert record("landed").cost_in("USD") == NOTHING


def bill(
    to_pay: str, billed: str = "0", *, calls: int = 1, unpriced: tuple[str, ...] = (), known: bool = True
) -> CostEstimate:
    cost = Cost(Decimal(to_pay), not unpriced)
    return CostEstimate(
        calls=calls,
        images=calls,
        costs=dict.fromkeys(KEYS[:calls], cost),
        generations=dict.fromkeys(KEYS[:calls], 1),
        unpriced=unpriced,
        billed=Cost(Decimal(billed), known),
    )


class TestBudget:
    def test_is_reserved_for_what_it_covers_to_the_last_bit(self) -> None:
        Budget(Decimal("0.1"), "USD").reserve(bill("0.06", "0.04"))

    @pytest.mark.parametrize(
        ("refused", "words"),
        [
            (
                bill("0.06", "0.05"),
                "it would cost up to 0.06 USD, 0.05 USD are billed already, and the budget is 0.1 USD",
            ),
            (bill("0", unpriced=("'m'", "'k'")), "budget=0.1 is set, and what it would cost is not known for 'k', 'm'"),
            (bill("0.01", known=False), "what earlier tries were billed is not known"),
        ],
    )
    def test_refuses_the_rest_in_one_line(self, refused: CostEstimate, words: str) -> None:
        with pytest.raises(BudgetExceeded) as caught:
            Budget(Decimal("0.1"), "USD").reserve(refused)
        assert words in str(caught.value)
        assert "billed: no" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("over", [bill("0", "5", calls=0), bill("0", calls=0, known=False)])
    def test_refuses_nothing_where_nothing_is_to_be_paid(self, over: CostEstimate) -> None:
        Budget(Decimal(0), "USD").reserve(over)

    @given(st.lists(st.decimals(0, 1, places=3), max_size=8), st.decimals(0, 3, places=3))
    def test_never_gives_more_than_it_has(self, amounts: list[Decimal], budget: Decimal) -> None:
        granted, given_out = Budget(budget, "USD"), Decimal(0)
        for amount in amounts:
            try:
                granted.take(amount)
            except BudgetExceeded:
                assert given_out + amount > budget
            else:
                given_out += amount
        assert given_out <= budget

    def test_gives_nothing_for_what_has_no_price(self) -> None:
        with pytest.raises(BudgetExceeded, match="an unknown amount"):
            Budget(Decimal(9), "USD").take(None)
