"""One cell of the matrix: an environment with one Airflow and one Python, and what the suite said in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from tests.stack.environment import CACHE, ROOT, child_environment

NEWEST, LOWEST = "3.3", "lowest"
ENVIRONMENTS = CACHE / "matrix"

ALL_TESTS = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "loadscope", "--no-loadscope-reorder", "--full")
"""As ``make test-all`` has it."""

_STAMP = ".installed"


@dataclass(frozen=True)
class SuiteResult:
    """The result of the test suite.

    :param passed: tests that passed
    :param failed: tests that failed, or could not be set up
    :param skipped: tests that do not apply to this Airflow
    :param seconds: how long it took, without the installation
    :param exit_status: of pytest
    """

    passed: int
    failed: int
    skipped: int
    seconds: float
    exit_status: int


@dataclass(frozen=True)
class Cell:
    """One combination.

    :param airflow: a series such as ``3.1``, or ``lowest``
    :param python: a version such as ``3.12``
    :param interpreter: which one
    """

    airflow: str
    python: str
    interpreter: Path

    @property
    def home(self) -> Path:
        """The environment's directory."""
        return ENVIRONMENTS / f"{self.airflow}-{self.python}"

    @property
    def constraints(self) -> Path:
        """The versions it holds."""
        return ROOT / "constraints" / (f"{LOWEST}.txt" if self.airflow == LOWEST else f"airflow-{self.airflow}.txt")

    def install(self) -> None:
        """Make the environment, unless it is there and nothing that decides it has changed."""
        stamp, wanted = self.home / _STAMP, self._identity()
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        uv = shutil.which("uv", path=str(ROOT / ".venv" / "bin")) or "uv"
        install = [uv, "pip", "install", "--quiet", "--python", str(self.home / "bin" / "python")]
        extras = "emulator,dev,docs" if self.airflow == NEWEST else "emulator,dev"
        what = ["--constraint", str(self.constraints), "--editable", f".[{extras}]"]
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", str(self.interpreter), str(self.home)],
            [*install, *what],
        ):
            subprocess.run(command, check=True, cwd=ROOT, env=self._environment())
        stamp.write_text(wanted)

    def run(self, tests: list[str]) -> SuiteResult:
        """Run the suite, or part of it; what it prints goes into ``<environment>.log``.

        :param tests: what to run; everything if empty
        """
        report = self.home.with_name(f"{self.home.name}.xml")
        report.unlink(missing_ok=True)
        command = [self.home / "bin" / "python", "-m", "pytest", *ALL_TESTS]
        options = ["-p", "no:cacheprovider", "--junitxml", report]
        if self.airflow != NEWEST:
            # Ignore warnings of older dependency releases; the documentation is only built with the newest ones.
            options += ["-o", "filterwarnings=default", "--ignore", "tests/docs"]
        start = time.monotonic()
        with self.home.with_name(f"{self.home.name}.log").open("w") as log:
            done = subprocess.run(
                [*command, *options, *tests], check=False, cwd=ROOT, env=self._environment(), stdout=log, stderr=log
            )
        return _read(report, time.monotonic() - start, done.returncode)

    def _identity(self) -> str:
        parts = [self.constraints.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), str(self.interpreter).encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def _environment(self) -> dict[str, str]:
        # Certificates as the system has them: networks that look inside TLS add their own.
        kept = {"UV_SYSTEM_CERTS": "true", **child_environment()}
        kept["VIRTUAL_ENV"] = str(self.home)
        kept["PATH"] = f"{self.home / 'bin'}:{kept.get('PATH', '')}"
        return kept


def _read(report: Path, seconds: float, exit_status: int) -> SuiteResult:
    if not report.is_file():
        return SuiteResult(0, 0, 0, seconds, exit_status)
    suite = ET.parse(report).getroot().find("testsuite")
    names = ("tests", "failures", "errors", "skipped")
    counts = {name: int(suite.get(name, 0)) for name in names} if suite is not None else {}
    failed = counts.get("failures", 0) + counts.get("errors", 0)
    skipped = counts.get("skipped", 0)
    return SuiteResult(counts.get("tests", 0) - failed - skipped, failed, skipped, seconds, exit_status)
