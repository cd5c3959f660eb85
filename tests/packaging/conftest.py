"""Wheel and sdist, built once; an environment with the wheel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.building import DIST, build, environment, installed


@dataclass(frozen=True)
class Release:
    """The files of a release."""

    wheel: Path
    sdist: Path


Command = Callable[..., str]


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A wheel made of an sdist, and that sdist."""
    given = os.environ.get(DIST)
    dist = Path(given).absolute() if given else build(tmp_path_factory.mktemp("dist"))
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    return Release(wheel, sdist)


@pytest.fixture(scope="session")
def binaries(release: Release) -> Iterator[Path]:
    """The bin directory of an environment with the wheel."""
    with installed(release.wheel) as found:
        yield found


@pytest.fixture
def run(binaries: Path, tmp_path: Path) -> Command:
    """Run a command of that environment far away from the checkout."""

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [binaries / arguments[0], *arguments[1:]],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(tmp_path),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command
