"""The documentation is built as ``make docs`` builds it: every warning is an error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS
from tests.stack.environment import ROOT, child_environment


def build(source: Path, site: Path, home: Path) -> None:
    """Build pages with the options of ``make docs``."""
    (recipe,) = re.findall(r"^docs:.*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    program, *options, pages, target = recipe.split()
    assert (program, pages, target) == ("$(BIN)/python", "docs", "docs/_build")
    environment = child_environment() | {"AIRFLOW_HOME": str(home / "airflow")}
    command = [sys.executable, *options, source, site]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert built.stderr == ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("docs")
    build(DOCS, home / "site", home)
    return home / "site"


class TestTheSite:
    def test_has_every_page(self, site: Path) -> None:
        pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md") if "_build" not in path.parts}
        assert pages <= {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}

    def test_is_searchable(self, site: Path) -> None:
        assert "generateimageoperator" in (site / "searchindex.js").read_text()

    def test_fetches_nothing_from_elsewhere(self, site: Path) -> None:
        loads = re.compile(r"""<(?:script|img|iframe)[^>]+src="(https?:[^"]+)"|<link[^>]+href="(https?:[^"]+)\"""")
        loaded = {found for page in site.rglob("*.html") for found in loads.findall(page.read_text())}
        assert loaded == set()

    def test_shows_types_in_the_reference(self, site: Path) -> None:
        text = re.sub(r"<[^>]+>", "", (site / "reference" / "operators.html").read_text())
        assert "prompt (str)" in text
        assert "async_ (bool | str | None)" in text

    def test_cuts_examples_out_of_the_dags(self, site: Path) -> None:
        page = re.sub(r"<[^>]+>", "", (site / "howto" / "generate.html").read_text())
        assert "generate = GenerateImageOperator(" in page
        assert "[START" not in page


def test_takes_every_warning_for_an_error(tmp_path: Path) -> None:
    (tmp_path / "conf.py").touch()
    (tmp_path / "index.rst").write_text("A page\n======\n\n:ref:`nowhere`\n")
    with pytest.raises(AssertionError, match="nowhere"):
        build(tmp_path, tmp_path / "site", tmp_path)


def test_goes_on_after_a_build_that_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / "conf.py").touch()
    (tmp_path / "index.rst").write_text("A page\n======\n\n.. toctree::\n\n   other\n")
    (tmp_path / "other.rst").write_text("Another\n=======\n")
    site = tmp_path / "site"
    build(tmp_path, site, tmp_path)
    parsed = site / ".doctrees" / "other.doctree"
    parsed.write_bytes(parsed.read_bytes()[:100])
    (site / "other.html").unlink()
    build(tmp_path, site, tmp_path)
    assert (site / "other.html").exists()
