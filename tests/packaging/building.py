"""Builds wheel and sdist, and puts the wheel into an environment with a plain Airflow and nothing of this checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import airflow

from tests.stack.environment import CACHE, ROOT, child_environment

ENVIRONMENTS = CACHE / "packaging"
DIST = "IMAGEGEN_DIST"
"""Variable that names a directory with wheel and sdist, to be tried instead of fresh ones."""


def build(target: Path, *kinds: str, source: Path = ROOT) -> Path:
    """
    Build what a release is made of.

    :param target: directory for it
    :param kinds: ``--wheel`` or ``--sdist``; an sdist and a wheel made of it if none
    :param source: what to build
    :return: the directory
    """
    _run([sys.executable, "-m", "build", "--installer", "uv", "--outdir", str(target), *kinds, str(source)])
    return target


@contextmanager
def installed(wheel: Path) -> Iterator[Path]:
    """
    Install a wheel beside a plain Airflow; the environment is kept for the next time, the wheel is put in again.

    :param wheel: the wheel
    :return: the environment's ``bin``
    """
    major, minor, *_ = airflow.__version__.split(".")
    constraints = ROOT / "constraints" / f"airflow-{major}.{minor}.txt"
    parts = f"{hashlib.sha256(constraints.read_bytes()).hexdigest()} {sys.executable} {platform.python_version()}"
    home = ENVIRONMENTS / hashlib.sha256(parts.encode()).hexdigest()[:16]
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "bin" / "python").exists():
            _run([_uv(), "venv", "--quiet", "--python", sys.executable, str(home)])
        install = [_uv(), "pip", "install", "--quiet", "--python", str(home / "bin" / "python")]
        _run(
            [*install, "--constraint", str(constraints), "--reinstall-package", "airflow-provider-imagegen", str(wheel)]
        )
        yield home / "bin"


def environment(home: Path) -> dict[str, str]:
    """
    Make the environment of a command of the installed Airflow.

    :param home: its AIRFLOW_HOME
    """
    kept = {name: value for name, value in child_environment().items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return kept | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}


def _uv() -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    found = shutil.which("uv", path=path)
    if found is None:
        raise RuntimeError("uv is not installed: `make install` puts it beside this Python")
    return found


def _run(command: list[str]) -> None:
    # Certificates as the system has them: networks that look inside TLS add their own.
    kept = {"UV_SYSTEM_CERTS": "true", **child_environment()}
    kept["PATH"] = f"{Path(_uv()).parent}{os.pathsep}{kept.get('PATH', '')}"
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=kept)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
