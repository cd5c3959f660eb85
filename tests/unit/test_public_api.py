"""The public API does not change: names, arguments, defaults, data formats; the files are in tests/public."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.public.compatibility import api_breaks, schema_breaks
from tests.public.files import API, breaks, current
from tests.public.surface import public_names

STORE = "store what is public now: python -m tests.public"


class TestWhatWasPublic:
    def test_is_still_there_and_means_the_same(self) -> None:
        assert list(breaks()) == []


class TestFiles:
    def test_are_those_of_all_formats(self) -> None:
        assert set(current()) == {API, *API.parent.glob("*.schema.json")}

    # By the files and not by current(), which imports the whole package: every test process collects this.
    @pytest.mark.parametrize("path", [API, *sorted(API.parent.glob("*.schema.json"))], ids=lambda path: path.name)
    def test_say_all_that_is_public(self, path: Path) -> None:
        stored, now = json.loads(path.read_text()), json.loads(json.dumps(current()[path]))
        missing = list(api_breaks(now, stored) if path == API else schema_breaks(now, stored))
        assert missing == [], STORE

    def test_say_what_the_reference_shows(self) -> None:
        names = public_names()
        assert "GenerateImageOperator" in names["operators.imagegen"]
        assert names["exceptions"] == ()
        assert len(names) > 15


SIGNATURE = {"call": {"prompt": "keyword", "n": "keyword = 1", "**": "any"}}


class TestRuleForNames:
    @pytest.mark.parametrize(
        "now",
        [
            SIGNATURE,
            {"call": {**SIGNATURE["call"], "seed": "keyword = None"}},
            {**SIGNATURE, "members": {"execute": {}}},
        ],
        ids=["nothing", "an argument with a default", "a method"],
    )
    def test_lets_additions_pass(self, now: dict[str, Any]) -> None:
        assert list(api_breaks(SIGNATURE, now)) == []

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            ({"prompt": "keyword", "**": "any"}, "call.n is gone"),
            ({"prompt": "keyword", "n": "keyword = 2", "**": "any"}, "call.n was 'keyword = 1' and is 'keyword = 2'"),
            ({**SIGNATURE["call"], "seed": "keyword"}, "call.seed is new and has no default"),
            ({"prompt": "keyword", "n": "keyword = 1"}, "call.** is gone"),
        ],
    )
    def test_tells_what_breaks(self, call: dict[str, str], words: str) -> None:
        assert list(api_breaks(SIGNATURE, {"call": call})) == [words]

    def test_tells_of_a_list_that_lost_something(self) -> None:
        assert list(api_breaks({"fields": ["a", "b"]}, {"fields": ["b", "c"]})) == ["fields has lost a"]


IMAGE = {"type": "object", "properties": {"uri": {"type": "string"}}, "required": ["uri"]}
FORMAT = {
    "type": "object",
    "$defs": {"Image": IMAGE},
    "properties": {
        "version": {"const": 1, "type": "integer"},
        "model": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "images": {"type": "array", "items": {"$ref": "#/$defs/Image"}},
        "usage": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "required": ["version", "images"],
}


def changed(**properties: Any) -> dict[str, Any]:
    return {**FORMAT, "properties": {**FORMAT["properties"], **properties}}


class TestRuleForFormats:
    @pytest.mark.parametrize(
        "now",
        [
            FORMAT,
            changed(cost={"type": "number"}),
            {**FORMAT, "required": ["version", "images", "model"]},
            changed(images={"type": "array", "items": {**IMAGE, "title": "Image"}}),
        ],
        ids=["nothing", "a field", "always there", "another name for the type"],
    )
    def test_lets_additions_pass(self, now: dict[str, Any]) -> None:
        assert list(schema_breaks(FORMAT, now)) == []

    @pytest.mark.parametrize(
        ("now", "words"),
        [
            ({**FORMAT, "required": ["version"]}, "the whole: images is not always there any more"),
            (changed(version={"const": 2, "type": "integer"}), "version: const was 1 and is 2"),
            (changed(model={"type": "string"}), "model: may be 0 things instead of 2"),
            (
                changed(model={"anyOf": [{"type": "integer"}, {"type": "null"}]}),
                "model: type was 'string' and is 'integer'",
            ),
            (changed(usage={"type": "object", "additionalProperties": {"type": "number"}}), "usage[]: type was"),
            ({**FORMAT, "$defs": {"Image": {**IMAGE, "properties": {}}}}, "images[].uri is gone"),
            ({**FORMAT, "$defs": {"Image": {**IMAGE, "required": []}}}, "images[]: uri is not always there any more"),
        ],
    )
    def test_tells_what_breaks(self, now: dict[str, Any], words: str) -> None:
        (found,) = schema_breaks(FORMAT, now)
        assert found.startswith(words)

    def test_tells_of_a_field_that_is_gone(self) -> None:
        fields = {name: field for name, field in FORMAT["properties"].items() if name != "usage"}
        assert list(schema_breaks(FORMAT, {**FORMAT, "properties": fields})) == ["usage is gone"]
