"""The docs cover the package: errors, operators, examples, fields, options, layers."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from airflow.sdk import BaseOperator
from pydantic import BaseModel

import airflow_provider_imagegen
from airflow_provider_imagegen import exceptions
from airflow_provider_imagegen.emulator.__main__ import _parser
from airflow_provider_imagegen.emulator.control import Changes
from airflow_provider_imagegen.emulator.faults import Fault, FaultKind
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.exceptions import ImageGenError, PermanentError
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.get_provider_info import get_provider_info
from airflow_provider_imagegen.triggers.imagegen import KWARGS_VERSION
from tests.docs.pages import DOCS, Page, all_pages
from tests.stack.environment import ROOT

EXAMPLES = sorted((ROOT / "dags_examples").glob("example_*.py"))
ERRORS = {
    name: kind for name, kind in vars(exceptions).items() if isinstance(kind, type) and issubclass(kind, ImageGenError)
}
BASES = {"ImageGenError", "PermanentError", "GatewayError"}


def _text(*names: str) -> str:
    return "\n".join((DOCS / name).read_text() for name in names)


class TestTroubleshooting:
    sections = Page(DOCS / "troubleshooting.md").sections(3)

    @pytest.mark.sampled
    @pytest.mark.parametrize("name", ERRORS)
    def test_has_an_entry_for_every_error(self, name: str) -> None:
        assert name in self.sections

    @pytest.mark.sampled
    @pytest.mark.parametrize("name", sorted(ERRORS.keys() - BASES))
    def test_says_of_every_error_whether_it_is_billed_and_retried(self, name: str) -> None:
        kind, entry = ERRORS[name], self.sections[name].strip()
        assert entry.startswith(f"**billed: {kind.billed}")
        assert ("Airflow does not retry it." in entry) == issubclass(kind, PermanentError)
        assert entry.count("\n| `") + entry.count("\n| another error") >= 1

    def test_quotes_texts_that_the_code_says(self) -> None:
        said = "\n".join(_templates())
        quotes = [quote for entry in self.sections.values() for quote in _quotes(entry)]
        assert len(quotes) > 80
        assert [quote for quote in quotes if not re.search(_pattern(quote), said)] == []


def _quotes(entry: str) -> Iterator[str]:
    for cell in re.findall(r"^\| (`.+?) \|", entry, re.MULTILINE):
        yield from re.findall(r"`(.+?)`(?:,|$)", cell)


def _pattern(quote: str) -> str:
    return ".*".join(map(re.escape, quote.strip("…").split("…")))


def _templates() -> Iterator[str]:
    """Yield the texts of the package, with … for variable parts."""
    for path in Path(airflow_provider_imagegen.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


class TestHowTos:
    pages = "\n".join(page.path.read_text() for page in all_pages())

    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
    def test_show_every_example(self, example: Path) -> None:
        marks = re.findall(r"# \[START (\w+)\]", example.read_text())
        assert marks
        for mark in marks:
            pattern = rf"{{literalinclude}} [./]*dags_examples/{example.name}\n(?::.*\n)*:start-after: .*{mark}\]"
            assert re.search(pattern, self.pages), mark

    def test_name_every_operator(self) -> None:
        kinds = {kind.__name__ for kind in _public_operators()}
        assert kinds >= {"GenerateImageOperator", "EditImageOperator", "GenerateImageBatchOperator"}
        howtos = "\n".join(page.path.read_text() for page in all_pages() if page.path.parent != DOCS / "reference")
        assert {name for name in kinds if name not in howtos} == set()

    def test_reference_has_every_operator(self) -> None:
        reference = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
        assert {kind.__name__ for kind in _public_operators() if kind.__name__ not in reference} == set()


def _public_operators() -> Iterator[type[BaseOperator]]:
    """Yield the operators and sensors that the provider's metadata lists."""
    info = get_provider_info()
    listed = [*info["operators"], *info.get("sensors", [])]
    for module in (importlib.import_module(name) for entry in listed for name in entry["python-modules"]):
        for kind in vars(module).values():
            if inspect.isclass(kind) and issubclass(kind, BaseOperator) and kind.__module__ == module.__name__:
                yield kind


class TestBatch:
    def test_shows_rows_with_every_field(self) -> None:
        shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", _text("batch.md"), re.DOTALL)]
        rows = [RowResult.model_validate(row) for row in shown if "row" in row]
        assert [row.status for row in rows] == ["landed", "failed"]
        assert [row.model_dump(mode="json") for row in rows] == [row for row in shown if "row" in row]


class TestConnections:
    def test_has_every_field(self) -> None:
        page = _text("connections.md")
        known = {field.name for field in fields(GatewaySettings)} - {"base_url", "token", "name"}
        (connection_type,) = get_provider_info()["connection-types"]
        in_form = set(connection_type["conn-fields"])
        rows = set(re.findall(r"^\| extra `(\w+)` \|", page, re.MULTILINE))
        assert known | in_form <= rows


class TestUpgrading:
    def test_names_everything_that_has_a_version(self) -> None:
        rows = re.findall(r"^\|[^|]*\| `(\w+)` \|[^|]*\| (\d+) \|", _text("upgrading.md"), re.MULTILINE)
        assert {name: int(version) for name, version in rows} == dict(_versions())


def _versions() -> Iterator[tuple[str, int]]:
    yield "ImageTasksTrigger", KWARGS_VERSION
    for kind in _models():
        if "version" in inspect.get_annotations(kind) and isinstance(kind.model_fields["version"].default, int):
            yield kind.__name__, kind.model_fields["version"].default


def _models() -> Iterator[type[BaseModel]]:
    for found in pkgutil.walk_packages(airflow_provider_imagegen.__path__, "airflow_provider_imagegen."):
        if ".emulator" not in found.name:
            for kind in vars(importlib.import_module(found.name)).values():
                if inspect.isclass(kind) and issubclass(kind, BaseModel) and kind.__module__ == found.name:
                    yield kind


class TestEmulatorPage:
    page = _text("emulator.md")

    def test_has_every_option(self) -> None:
        options = {option for action in _parser()._actions for option in action.option_strings} - {"-h", "--help"}
        assert set(re.findall(r"^\| `(--[\w-]+)` \|", self.page, re.MULTILINE)) == options

    def test_has_every_setting_that_can_change(self) -> None:
        (row,) = re.findall(r"^\| `POST /_emulator/settings` .*$", self.page, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", row)) == set(Changes.model_fields)

    def test_has_every_fault(self) -> None:
        table = self.page.split("| `kind` | what happens")[1]
        assert set(FaultKind) <= set(re.findall(r"`(\w+)`", table))
        assert {name for name in Fault.model_fields if f"`{name}`" not in self.page} == set()

    def test_has_every_total(self, emulator: RunningEmulator) -> None:
        assert {name for name in emulator.totals() if f"`{name}`" not in self.page} == set()

    def test_code_runs(self, capsys: pytest.CaptureFixture[str]) -> None:
        (block,) = Page(DOCS / "emulator.md").blocks("python")
        exec(compile(block.code, "emulator.md", "exec"), {})
        assert "http://127.0.0.1:" in capsys.readouterr().out


class TestDrawings:
    def test_are_as_the_script_draws_them(self) -> None:
        draw = _script("draw", DOCS / "images" / "draw.py")
        for name, drawing in draw.DRAWINGS.items():
            assert (DOCS / "images" / name).read_text() == drawing(), "run python docs/images/draw.py"

    def test_have_every_package(self) -> None:
        drawn = set(re.findall(r">(\w+)</text>", (DOCS / "images" / "layers.svg").read_text()))
        packages = {module.name for module in pkgutil.iter_modules(airflow_provider_imagegen.__path__)}
        assert packages == drawn


def _script(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
