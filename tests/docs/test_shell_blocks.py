"""The shell blocks of the pages run unchanged, except for the ports."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from sqlite3 import connect

import pytest
from packaging.version import Version
from PIL import Image

from tests.conftest import AIRFLOW_HOME
from tests.docs.pages import DOCS, README, Block, Page, all_pages
from tests.integration.conftest import airflow_database
from tests.stack.environment import child_environment
from tests.stack.ports import free_port
from tests.stack.process import Process

__all__ = ["airflow_database"]

PAGES = [page for page in all_pages() if list(page.blocks("bash"))]
PORT = re.compile(r"\b(?:8790|8791|8333)\b")

AIRFLOW = Version(version("apache-airflow-core"))

# Who reads these pages has an Airflow, with its database. Its command line is slow to start.
WITH_AIRFLOW = {"docs/connections.md"}
CASES = [
    pytest.param(page, marks=pytest.mark.full if page.name in WITH_AIRFLOW else (), id=page.name) for page in PAGES
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The repository's environment, with a home of its own."""
    home = tmp_path / "home"
    home.mkdir()
    own = {"HOME": str(home), "AIRFLOW_HOME": str(home / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    inherited = child_environment()
    return inherited | own | {"PATH": f"{Path(sys.executable).parent}:{inherited['PATH']}"}


@pytest.mark.parametrize("page", CASES)
def test_every_block_is_run_or_says_why_not(
    page: Page, tmp_path: Path, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    if page.name in WITH_AIRFLOW:
        request.getfixturevalue("airflow_database")
        own = Path(environment["AIRFLOW_HOME"])
        own.mkdir()
        # A copy of the file alone would miss what SQLite has written beside it.
        with closing(connect(AIRFLOW_HOME / "airflow.db")) as theirs, closing(connect(own / "airflow.db")) as copy:
            theirs.backup(copy)
    blocks = page.blocks("bash")
    run = [block for block in blocks if block.why_not_run is None and not _is_ahead_of_its_time(block)]
    (tmp_path / "cwd").mkdir()
    if run:
        command = ["bash", "-c", _script(run)]
        process = Process(page.name, command, env=environment, log=tmp_path / "log", cwd=tmp_path / "cwd")
        process.start()
        try:
            process.wait_success()
        finally:
            process.stop()
        log = (tmp_path / "log").read_text()
        assert [int(line) for line in re.findall(r"^--- line (\d+)$", log, re.MULTILINE)] == [b.line for b in run]
        EVIDENCE.get(page.name, lambda cwd, log: None)(tmp_path / "cwd", log)


def _is_ahead_of_its_time(block: Block) -> bool:
    """Return whether a block needs a newer Airflow than this one, as the page says beside it."""
    return "airflow imagegen" in block.code and Version("3.2") > AIRFLOW


def _script(blocks: Sequence[Block]) -> str:
    """Return one shell session in which the blocks are run in order; what they leave running ends with it."""
    ports: dict[str, str] = {}

    def free(port: re.Match[str]) -> str:
        return ports.setdefault(port[0], str(free_port()))

    typed = [f"printf '\\n--- line {block.line}\\n'\n{PORT.sub(free, block.code)}" for block in blocks]
    return "\n".join(["set -euo pipefail", *typed])


def _an_image_was_drawn(cwd: Path, log: str) -> None:
    manifest = json.loads((cwd / "manifest.json").read_text())
    with Image.open(cwd / "0.png") as opened:
        (image,) = manifest["images"]
        assert opened.size == (image["width"], image["height"])
    assert manifest["billed"] == 1
    assert Version("3.2") > AIRFLOW or re.search(r"^first_image +generate .* landed ", log, re.MULTILINE)


def _connections_were_added(cwd: Path, log: str) -> None:
    (shown,) = json.loads(re.findall(r"^\[\{.*?\}\]$", log, re.MULTILINE | re.DOTALL)[-1])
    assert (shown["conn_type"], shown["host"]) == ("imagegen", "https://api.acedata.cloud")


def _the_emulator_answered(cwd: Path, log: str) -> None:
    assert '"totals"' in log
    assert '{"status":"changed"}' in log
    assert '{"id":1}' in log


EVIDENCE: dict[str, Callable[[Path, str], None]] = {
    "docs/getting-started.md": _an_image_was_drawn,
    "docs/connections.md": _connections_were_added,
    "docs/emulator.md": _the_emulator_answered,
}


class TestTheFirstPages:
    @pytest.mark.parametrize("path", [README, DOCS / "getting-started.md"], ids=lambda path: path.name)
    def test_have_no_shell_blocks_under_another_name(self, path: Path) -> None:
        assert list(Page(path).blocks("sh", "shell", "console", "")) == []

    def test_cannot_leave_a_block_out_without_a_reason(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("<!-- not run: -->\n```bash\ntrue\n```\n\n<!-- not run: why -->\n```bash\nfalse\n```\n")
        assert [block.why_not_run for block in Page(page).blocks("bash")] == [None, "why"]
