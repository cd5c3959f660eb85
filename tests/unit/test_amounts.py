"""Amounts are parsed and added exactly, and an unknown amount never becomes 0."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_provider_imagegen.money import (
    NOTHING,
    STEP,
    UNKNOWN,
    Cost,
    amount_of,
    rounded,
    shares,
    shares_of_tokens,
    shown,
)
from airflow_provider_imagegen.schemas.base import Money

AMOUNTS = st.decimals(0, 10**5, allow_nan=False, allow_infinity=False, places=9)
COSTS = st.builds(Cost, AMOUNTS.map(rounded), st.booleans())


class Priced(BaseModel):
    cost: Money | None


class TestReading:
    @pytest.mark.parametrize(
        ("given_amount", "amount"),
        [
            ("0.042", "0.042"),
            (" 12 ", "12"),
            (5, "5"),
            (0.1, "0.1"),
            (1e-05, "0.00001"),
            (Decimal("0.167"), "0.167"),
            (0, "0"),
        ],
    )
    def test_takes_what_people_write(self, given_amount: object, amount: str) -> None:
        assert amount_of(given_amount) == Decimal(amount)

    @pytest.mark.parametrize(
        "wrong",
        ["", "free", "-1", -1, True, None, "1e3", "NaN", float("nan"), float("inf"), "1_000", "1,5", "٣", [1], 1e30],
    )
    def test_refuses_the_rest(self, wrong: object) -> None:
        with pytest.raises(ValueError, match="an amount like"):
            amount_of(wrong)

    @given(AMOUNTS)
    def test_reads_what_it_shows(self, amount: Decimal) -> None:
        assert amount_of(shown(amount)) == amount


class TestTravelling:
    @given(AMOUNTS)
    def test_as_a_json_number_comes_back_the_same(self, amount: Decimal) -> None:
        text = Priced(cost=amount).model_dump_json()
        assert isinstance(json.loads(text)["cost"], float)
        assert Priced.model_validate_json(text).cost == amount
        assert Priced.model_validate(Priced(cost=amount).model_dump(mode="json")).cost == amount

    def test_unknown_stays_null(self) -> None:
        assert Priced(cost=None).model_dump(mode="json") == {"cost": None}


class TestSums:
    @given(COSTS, COSTS, COSTS)
    def test_are_independent_of_the_order(self, one: Cost, other: Cost, third: Cost) -> None:
        assert one + other == other + one
        assert (one + other) + third == one + (other + third)
        assert one + NOTHING == one

    @given(st.lists(AMOUNTS, max_size=20))
    def test_are_exact(self, amounts: list[Decimal]) -> None:
        assert sum((Cost.of(amount) for amount in amounts), NOTHING).total == sum(amounts)

    @given(COSTS)
    def test_with_something_unknown_are_unknown(self, cost: Cost) -> None:
        assert (cost + UNKNOWN).total is None
        assert (cost + UNKNOWN).known == cost.known

    def test_of_huge_counts_do_not_fail(self) -> None:
        assert rounded(Decimal(10) ** 40) >= 10**39


class TestShares:
    @given(AMOUNTS, st.integers(1, 12))
    def test_add_up_and_differ_by_one_step(self, amount: Decimal, count: int) -> None:
        parts = [part for part in shares(amount, count) if part is not None]
        assert len(parts) == count
        assert sum(parts) == amount
        assert max(parts) - min(parts) <= STEP

    @given(st.dictionaries(st.text(max_size=9), st.integers(0, 10**12), max_size=4), st.integers(1, 12))
    def test_of_tokens_add_up(self, usage: dict[str, int], count: int) -> None:
        parts = shares_of_tokens(usage, count)
        assert {name: sum(part[name] for part in parts) for name in usage} == usage

    def test_of_what_is_no_count_are_left_out(self) -> None:
        usage = {"output_tokens": 3, "input_tokens_details": {"text_tokens": 1}, "is": True, "minus": -1}
        assert shares_of_tokens(usage, 2) == ({"output_tokens": 2}, {"output_tokens": 1})

    def test_of_the_unknown_are_unknown(self) -> None:
        assert shares(None, 3) == (None, None, None)
