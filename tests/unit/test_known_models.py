"""Model names of the catalog, and the table in the docs."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from airflow_provider_imagegen.catalog.models import MODELS, images_per_call, known_model
from tests.docs.models_table import table
from tests.unit.known_models import GPT_IMAGES, NANO_BANANAS, UNKNOWN

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
COMMAND = "python -m tests.docs.models_table"
START, END = "<!-- models: start -->\n", "<!-- models: end -->\n"


KNOWN: dict[str | None, str | None] = {
    "gpt-image-1": "gpt-image-1",
    "openai/gpt-image-1": "gpt-image-1",
    "azure/eu/gpt-image-1": "gpt-image-1",
    "gpt-image-1-2025-04-23": "gpt-image-1",
    "gpt-image-1@20250423": "gpt-image-1",
    "gpt-image-1:latest": "gpt-image-1",
    "gpt-image-1-mini": "gpt-image-1-mini",
    "openai/gpt-image-1-mini-2025-10-06": "gpt-image-1-mini",
    "gpt-image-1.5": "gpt-image-1.5",
    "gpt-image-1.5-2025-12-16": "gpt-image-1.5",
    "gpt-image-2": "gpt-image-2",
    "gpt-image-2-2026-04-01": "gpt-image-2",
    "gpt-image-2.5": "gpt-image-2",
    "gpt-image-2.5-foo": "gpt-image-2",
    "gpt-image-2.6-2026-09-01": "gpt-image-2",
    "chatgpt-image-latest": "chatgpt-image-latest",
    "dall-e-3": "dall-e-3",
    "openai/dall-e-2": "dall-e-2",
    "nano-banana": "nano-banana",
    "nano-banana-2": "nano-banana-2",
    "google/nano-banana-pro": "nano-banana-pro",
    "nano-banana-pro-preview": "nano-banana-pro",
    "nano-banana-3": "nano-banana",
    "gpt-image-10": None,
    "gpt-image-1.55": None,
    "gpt-image-1-minion": None,
    "gpt-image-1-turbo": None,
    "gpt-image-20": None,
    "gpt-image-2.5foo": None,
    "gpt-image-2.": None,
    "gpt-image": None,
    "my-gpt-image-1": None,
    "gpt-image-1/": None,
    "gpt-image-1/edit": None,
    "dall-e-30": None,
    "nano-bananas": None,
    "": None,
    None: None,
}
SHUT_DOWN: dict[str | None, str | None] = {
    "dall-e-2": "2026-05",
    "openai/dall-e-3": "2026-05",
    "gpt-image-1-2025-04-23": "2026-10",
    "gpt-image-1-mini": None,
    "gpt-image-1.5": None,
    "gpt-image-2": None,
    "nano-banana": None,
    "gpt-image-10": None,
    None: None,
}
COUNTS = {"dall-e-2": 10, "dall-e-3": 1, **dict.fromkeys(GPT_IMAGES, 10), **dict.fromkeys([*NANO_BANANAS, *UNKNOWN], 1)}


class TestModelsName:
    def test_is_looked_up_by_its_longest_known_beginning(self) -> None:
        found = {name: known_model(name) for name in KNOWN}
        assert {name: model and model.name for name, model in found.items()} == KNOWN

    def test_tells_how_many_images_one_call_makes(self) -> None:
        assert {name: images_per_call(name) for name in COUNTS} == COUNTS

    def test_tells_when_its_vendor_shut_it_down(self) -> None:
        found = {name: known_model(name) for name in SHUT_DOWN}
        assert {name: model and model.shut_down for name, model in found.items()} == SHUT_DOWN


class TestTable:
    def test_in_the_docs_is_the_generated_one(self) -> None:
        written = DOCS.read_text(encoding="utf-8").partition(START)[2].partition(END)[0].strip()
        advice = f"docs/models.md is not what the catalog says: put the output of `{COMMAND}` between its markers"
        assert written == table().strip(), advice

    def test_has_a_row_of_equal_width_for_every_model(self) -> None:
        head, line, *rows = table().splitlines()
        assert {row.count(" | ") for row in (line, *rows)} == {head.count(" | ")}
        assert [row.split("`")[1] for row in rows] == [model.name for model in MODELS]

    @pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
    def test_is_printed_by_the_module(self, capsys: pytest.CaptureFixture[str]) -> None:
        runpy.run_module("tests.docs.models_table", run_name="__main__")
        assert capsys.readouterr().out == table()
