"""Contents and metadata of wheel and sdist."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

from airflow_provider_imagegen import __version__
from tests.packaging.building import build
from tests.packaging.conftest import Release
from tests.stack.environment import ROOT

PACKAGE = "airflow_provider_imagegen"
INFO = f"{PACKAGE}-{__version__}.dist-info"
MOST_BYTES = 1_000_000


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(release: Release) -> Message:
    return HeaderParser().parsestr(contents(release.wheel)[f"{INFO}/METADATA"].decode())


class TestWheel:
    def test_holds_the_whole_package_and_nothing_else(self, release: Release) -> None:
        files = [path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        found = {name for name in contents(release.wheel) if not name.startswith(f"{INFO}/")}
        assert found == {path.relative_to(ROOT).as_posix() for path in files}

    def test_holds_what_is_no_code(self, release: Release) -> None:
        found = contents(release.wheel)
        assert f"{PACKAGE}/py.typed" in found
        assert {Path(name).suffix for name in found if name.startswith(f"{PACKAGE}/gallery/static/")} >= {".css", ".js"}
        assert found[f"{INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()

    def test_is_the_same_made_of_the_sdist_and_of_the_checkout(self, release: Release, tmp_path: Path) -> None:
        (direct,) = build(tmp_path, "--wheel").glob("*.whl")
        assert contents(direct) == contents(release.wheel)

    def test_is_small(self, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
        sizes = {path.name: path.stat().st_size for path in (release.wheel, release.sdist)}
        unpacked = sum(len(content) for content in contents(release.wheel).values())
        with capsys.disabled():
            print("", *(f"{name}: {size / 1000:.0f} kB" for name, size in sizes.items()), sep="\n")
            print(f"wheel unpacked: {unpacked / 1000:.0f} kB")
        assert sizes[release.wheel.name] < MOST_BYTES


class TestSdist:
    def test_holds_what_it_takes_to_test_it(self, release: Release) -> None:
        with tarfile.open(release.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        wanted = {"pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "LICENSE", ".ci/run", "tests/conftest.py"}
        constraints = {path.relative_to(ROOT).as_posix() for path in (ROOT / "constraints").glob("*.txt")}
        examples = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dags_examples").glob("*.py")}
        assert wanted | constraints | examples <= names
        assert {name for name in names if name.startswith((".venv", ".cache", "demo-output", "dist"))} == set()


class TestMetadata:
    def test_is_taken_by_a_package_index(self, release: Release) -> None:
        command = [sys.executable, "-m", "twine", "check", "--strict", release.wheel, release.sdist]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_says_what_it_is(self, metadata: Message) -> None:
        assert (metadata["Name"], metadata["Version"]) == ("airflow-provider-imagegen", __version__)
        assert metadata["License-Expression"] == "Apache-2.0"
        assert metadata["Description-Content-Type"] == "text/markdown"
        classifiers = metadata.get_all("Classifier", [])
        assert {"Framework :: Apache Airflow", "Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= {
            *classifiers
        }
        assert {"airflow", "airflow-provider"} <= set(metadata["Keywords"].split(","))

    def test_promises_the_pythons_that_are_tested(self, metadata: Message) -> None:
        from tests.matrix.pythons import VERSIONS

        promised = [name.rpartition(" ")[2] for name in metadata.get_all("Classifier", []) if "Python :: 3." in name]
        assert tuple(promised) == VERSIONS

    def test_names_no_address_that_is_not_known(self, metadata: Message) -> None:
        assert [url for url in metadata.get_all("Project-URL", []) if "https://" not in url] == []

    def test_registers_with_airflow(self, release: Release) -> None:
        entry_points = contents(release.wheel)[f"{INFO}/entry_points.txt"].decode()
        for line in (
            "[apache_airflow_provider]",
            f"provider_info = {PACKAGE}.get_provider_info:get_provider_info",
            "[airflow.plugins]",
            f"imagegen = {PACKAGE}.plugins.imagegen:ImageGenPlugin",
            f"openai = {PACKAGE}.gateways.openai:OpenAIGateway",
        ):
            assert line in entry_points.splitlines()
