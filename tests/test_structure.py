"""Layers of the package: which package may import which, and how large a file may grow."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_provider_imagegen"
MOST_LINES = 450


def contracts_of(home: Path) -> str:
    """Return what import-linter says of the package in a directory, by the contracts of this checkout's pyproject."""
    command = [shutil.which("lint-imports", path=Path(sys.executable).parent) or "lint-imports", "--no-cache"]
    done = subprocess.run(
        [*command, "--config", str(ROOT / "pyproject.toml")], cwd=home, check=False, capture_output=True, text=True
    )
    assert done.returncode in {0, 1}, done.stderr
    assert (done.returncode == 0) is ("0 broken" in done.stdout)
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, to be built worse."""
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def add(home: Path, module: str, line: str) -> None:
    path = home / PACKAGE / module
    path.write_text(f"{line}\n{path.read_text() if path.exists() else ''}")


class TestLayers:
    def test_are_kept(self) -> None:
        printed = contracts_of(ROOT)
        assert "0 broken" in printed, printed

    @pytest.mark.parametrize(
        ("module", "line", "contract"),
        [
            ("redaction.py", f"import {PACKAGE}.exceptions", "Imports only look down"),
            ("landing/xmp.py", f"from {PACKAGE} import polling", "Imports only look down"),
            ("unlisted.py", "import json", "Imports only look down"),
            ("engine/batch/rows.py", f"from {PACKAGE}.engine.batch import job", "No circles in any package"),
            ("emulator/books.py", f"from {PACKAGE} import schemas", "Imports only look down"),
            ("gateways/client.py", f"from {PACKAGE}.emulator import painter", "Nothing imports the emulator"),
            ("engine/job.py", "from airflow.sdk import Variable", "Only the packages made for Airflow import it"),
        ],
        ids=["upward", "sideways", "no layer", "circle", "emulator imports", "on the emulator", "engine knows Airflow"],
    )
    def test_are_distinguished_from_worse_ones(self, copy: Path, module: str, line: str, contract: str) -> None:
        add(copy, module, line)
        assert f"{contract} BROKEN" in contracts_of(copy)


class TestModules:
    def test_are_short(self) -> None:
        modules = [path for folder in (PACKAGE, "tests", "dags_examples") for path in (ROOT / folder).rglob("*.py")]
        assert len(modules) > 200
        lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules}
        assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


class TestImports:
    def test_of_programs_that_no_test_runs_are_there(self) -> None:
        """Benchmarks and chaos run by commands of their own, and some start scripts that are texts to Python."""
        programs = [path for folder in ("benchmarks", "chaos") for path in (ROOT / "tests" / folder).rglob("*.py")]
        names = [name for path in programs for name in imported_names(path.read_text())]
        assert len(names) > 40
        assert [name for name in names if not is_there(*name)] == []

    def test_that_lead_nowhere_are_noticed(self) -> None:
        script = f'SCRIPT = """\nfrom {PACKAGE}.engine.job import Renamed\n"""'
        assert [is_there(*name) for name in imported_names(script)] == [False]


def imported_names(code: str) -> Iterator[tuple[str, str]]:
    """Yield modules of the package and names that code imports from them, scripts in its texts included."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and f"\nfrom {PACKAGE}" in str(node.value):
            yield from imported_names(str(node.value))


def is_there(module: str, name: str) -> bool:
    try:
        home = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    is_package = hasattr(home, "__path__")
    return hasattr(home, name) or (is_package and importlib.util.find_spec(f"{module}.{name}") is not None)


class TestTime:
    """A busy machine is no defect: tests neither sleep nor ask how long something took."""

    CLOCKS = frozenset({"sleep", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"})
    MAY_ASK = (
        "benchmarks/",
        "chaos/",
        "fuzz/campaign.py",
        "matrix/",
        "stack/",
        # Notes when lookups were made; what is asserted is their order.
        "polling/conftest.py",
    )
    MAY_SLEEP = ("benchmarks/", "chaos/", "stack/process_guard.py", "stack/waiting.py")

    @pytest.mark.parametrize(
        ("names", "allowed"), [(CLOCKS, MAY_ASK), ({"sleep"}, MAY_SLEEP)], ids=["elapsed time", "sleep"]
    )
    def test_is_asked_for_by_helpers_only(self, names: Set[str], allowed: tuple[str, ...]) -> None:
        tests = ROOT / "tests"
        found = {
            f"{path.relative_to(tests)}:{node.lineno}"
            for path in tests.rglob("*.py")
            if not path.relative_to(tests).as_posix().startswith(allowed)
            for node in ast.walk(ast.parse(path.read_text()))
            if asks_for_time(node, names)
        }
        assert found == set()

    @pytest.mark.parametrize("code", ["time.sleep(1)", "assert time.monotonic() - start < 5", "from time import sleep"])
    def test_is_noticed_in_any_spelling(self, code: str) -> None:
        assert any(asks_for_time(node, self.CLOCKS) for node in ast.walk(ast.parse(code)))


def asks_for_time(node: ast.AST, names: Set[str]) -> bool:
    """Return whether a node of the syntax tree uses one of these names of the module ``time``."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "time" and any(alias.name in names for alias in node.names)
    is_of_time = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
    return is_of_time and node.attr in names


class TestVersions:
    def test_are_distinguished_in_one_module_only(self) -> None:
        signs = re.compile(r"ImportError|ModuleNotFoundError|airflow\.__version__|AIRFLOW_V_")
        modules = [path for path in (ROOT / PACKAGE).rglob("*.py") if signs.search(path.read_text())]
        assert [path.relative_to(ROOT / PACKAGE).as_posix() for path in modules] == ["version_compat.py"]
