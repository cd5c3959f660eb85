"""One run, entry or row that cannot be read is a card that says so; its neighbours are shown."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_imagegen.gallery.airflow_api import MAX_XCOM_BYTES
from airflow_provider_imagegen.gallery.cards import UNREADABLE
from tests.examples import examples
from tests.gallery.airflow_server import GOOD, IMAGE, newest

GOOD_CARDS = {("image", ""), ("failure", "moderation_blocked")}
DEEP = "[" * 100_000
POISONS = (
    "1e400", "-1e999", "NaN", 1e400, float("nan"), 10**400, "\ud800", "\0", "x" * 100_000, "", None, True, -1, [], {},
    {"a": {"b": [[[[1]]]]}}, DEEP, "[]" * 3, {"\udfff": "\ud800"}, [None], "9" * 5000,
)  # fmt: skip


def of_run(cards: list[dict[str, Any]], run_id: str) -> set[tuple[str, str]]:
    return {(card["kind"], card.get("code", "")) for card in cards if card["run_id"] == run_id}


@st.composite
def poisoned_manifests(draw: st.DrawFn) -> dict[str, Any]:
    """A manifest with something in a field that does not belong there."""
    manifest = deepcopy(GOOD)
    place = draw(st.sampled_from([manifest, manifest["images"][0], manifest["failures"][0], manifest["usage"]]))
    place[draw(st.sampled_from([*place, "new"]))] = draw(st.sampled_from(POISONS))
    return manifest


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(codec=None), max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=10,
)
VALUES = (JSON | poisoned_manifests() | st.sampled_from(POISONS)).map(json.dumps)
# Some releases hand out the text that they store.
XCOMS = VALUES | VALUES.map(json.dumps) | st.sampled_from([DEEP, "{", "NaN", '{"a": 1e999}', "9" * 5000])


class TestNeighbours:
    @settings(max_examples=examples(400), deadline=None)
    @given(XCOMS)
    @example(json.dumps(DEEP))
    @example(json.dumps(GOOD | {"images": [IMAGE | {"cost": "1e400"}]}))
    @example(json.dumps(GOOD | {"model": "\ud800"}))
    def test_are_shown_whatever_a_task_returned(self, value: str) -> None:
        cards = newest({"before": json.dumps(GOOD), "between": value, "after": json.dumps(GOOD)})
        assert of_run(cards, "before") == of_run(cards, "after") == GOOD_CARDS

    @settings(max_examples=examples(200), deadline=None)
    @given(
        st.text(min_size=1, max_size=10) | st.sampled_from([".", "..", "~", "a/b", "/", "%2F", "%2e", "a?b#c", "\n"])
    )
    @example(".")
    @example("..")
    @example("~")
    @example("2026/01")
    def test_are_shown_whatever_a_run_is_called(self, run_id: str) -> None:
        cards = newest({"before": json.dumps(GOOD), run_id: json.dumps(GOOD), "after": json.dumps(GOOD)})
        assert of_run(cards, "before") == of_run(cards, "after") == GOOD_CARDS
        assert of_run(cards, run_id) in (GOOD_CARDS, {("failure", UNREADABLE)})


class TestUnreadable:
    def shown(self, value: str) -> dict[str, Any]:
        (card,) = newest({"nightly": value})
        assert (card["kind"], card["code"], card.get("billed")) == ("failure", UNREADABLE, None)
        return card

    def test_run_names_its_id(self) -> None:
        (card,) = newest({"..": json.dumps(GOOD)})
        assert card["message"] == "The run '..' cannot be read. No URL can contain the id '..'."

    def test_xcom_may_be_nested_too_deeply(self) -> None:
        card = self.shown(json.dumps(DEEP))
        assert (card["run_id"], card["task_id"]) == ("nightly", "draw")
        assert card["message"] == "The XCom is nested too deeply."

    def test_xcom_may_be_too_large(self) -> None:
        large = GOOD | {"manifest_uri": "s3://" + "x" * MAX_XCOM_BYTES}
        assert "The XCom has 4" in self.shown(json.dumps(large))["message"]

    def test_manifest_names_the_field_that_is_wrong(self) -> None:
        wrong = GOOD | {"images": [IMAGE | {"bytes": "many"}]}
        assert "wrong type or value of field images.0.bytes" in self.shown(json.dumps(wrong))["message"]

    def test_cost_is_left_out(self) -> None:
        image, _ = newest({"nightly": json.dumps(GOOD | {"images": [IMAGE | {"cost": "1e400"}]})})
        assert (image["kind"], image["cost"]) == ("image", None)

    def test_halves_of_characters_are_replaced(self) -> None:
        image, _ = newest({"nightly": json.dumps(GOOD | {"model": "m\ud800"})})
        assert image["model"] == "m\ufffd"


class TestOtherOperators:
    """What has nothing to do with images is not shown, however large or odd it is."""

    def test_return_what_they_like(self) -> None:
        for value in ("text", 1, None, {"version": 1, "images": 2}, {"rows": "x" * MAX_XCOM_BYTES}, {"version": "1"}):
            assert newest({"nightly": json.dumps(value)}) == []
