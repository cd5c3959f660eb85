"""Finds the Pythons of this machine, by running them: version managers leave launchers that exist and fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13")
"""The Python versions that pyproject.toml declares and constraints are resolved for."""


def find_pythons() -> dict[str, Path]:
    """Return an interpreter for each promised version that is installed here, by version such as ``3.12``."""
    found = {version: next(_working(version), None) for version in VERSIONS}
    return {version: path for version, path in found.items() if path is not None}


def _working(version: str) -> Iterator[Path]:
    """Yield the interpreters of one version, environments left out: what they lean on may vanish."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix == sys.base_prefix, sys.executable, sep='\\n')"
    for path in _candidates(version):
        run = subprocess.run([path, "-c", ask], check=False, capture_output=True, text=True)
        if run.returncode == 0 and run.stdout.splitlines()[:2] == [version, "True"]:
            yield Path(run.stdout.splitlines()[2])


def _candidates(version: str) -> Iterator[Path]:
    """Yield where one might be: on the path, with pyenv, with uv."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield from Path(folder).glob(f"python{version}")
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))
    managed = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", home / ".local" / "share" / "uv" / "python"))
    yield from sorted(pyenv.glob(f"versions/{version}*/bin/python{version}"))
    yield from sorted(managed.glob(f"*-{version}*/bin/python{version}"))
