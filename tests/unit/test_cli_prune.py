"""The rule by which ``airflow imagegen ledger prune`` keeps and deletes, and the durations that it takes."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_imagegen.cli.prune import DAY, MINIMUM_AGE, SETTLED, reason_to_keep, seconds_of
from airflow_provider_imagegen.ledger.models import State

OPEN = sorted(set(get_args(State)) - SETTLED)
AGES = st.floats(allow_nan=False)
STATES = st.lists(st.sampled_from(get_args(State)), max_size=4)


class TestRule:
    @given(AGES, AGES, STATES, st.sampled_from(OPEN), STATES)
    def test_keeps_an_open_request_whatever_its_age_and_what_follows(
        self, age: float, older_than: float, before: list[str], state: str, after: list[str]
    ) -> None:
        assert reason_to_keep(age, older_than, [*before, state, *after]).startswith("kept: ")

    @given(AGES, AGES, STATES)
    def test_keeps_what_is_not_old_enough_whatever_its_state(
        self, age: float, older_than: float, states: list[str]
    ) -> None:
        assume(age <= older_than)
        assert reason_to_keep(age, older_than, states) == "kept: not old enough"

    @given(AGES, AGES, st.lists(st.sampled_from(sorted(SETTLED)), max_size=4))
    def test_deletes_what_is_old_and_settled(self, age: float, older_than: float, states: list[str]) -> None:
        assume(age > older_than)
        assert reason_to_keep(age, older_than, states) == ""

    def test_takes_every_state_for_open_that_is_not_known_to_be_settled(self) -> None:
        assert OPEN == ["answered", "cancelling", "claimed", "submitted", "waiting"]
        assert reason_to_keep(2, 1, ["a state of a later release"]) == "kept: not settled"


class TestDuration:
    @given(st.integers(30, 999_999))
    def test_is_in_days_or_hours(self, days: int) -> None:
        assert seconds_of(f"{days}d") == days * DAY
        assert seconds_of(f"{min(days * 24, 999_999)}h") == min(days * 24, 999_999) * 3600

    @given(st.one_of(st.text(), st.from_regex(re.compile(r"-?[0-9. ]*[dhms]?\n?"), fullmatch=True)))
    def test_of_any_other_form_or_too_short_is_refused_in_one_line(self, text: str) -> None:
        try:
            seconds = seconds_of(text)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert re.fullmatch("[0-9]+[dh]", text)
            assert seconds >= MINIMUM_AGE

    @pytest.mark.parametrize("text", ["12h", "29d", "719h", "365", "1y", "-365d", "٣٦٥d", "365d\n", "", "9999999d"])
    def test_names_what_is_expected(self, text: str) -> None:
        expected = f"invalid --older-than {text!r} (expected days or hours, such as 365d or 8760h, and at least 30d)"
        with pytest.raises(ValueError, match=re.escape(expected)):
            seconds_of(text)
