"""
A Chromium for the tests of the gallery and for its screenshots: found where there is one, installed where not.

``python -m tests.stack.browser`` (``make browser``) finds or installs it and prints its path.
"""

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stack.environment import child_environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names of the Chromium executable."""

_DOWNLOADS = "https://cdn.playwright.dev/"
_PROBE_TIMEOUT = 5.0
"""Seconds until the download host counts as out of reach."""
_TIMEOUT = 600.0
_LINES_OF_A_FAILURE = 15
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class BrowserMissingError(RuntimeError):
    """There is no Chromium and none could be installed; the message says what was tried."""


def find_browser() -> Path | None:
    """
    Look for a Chromium on the path, then where Playwright puts its own.

    :return: the executable, None if there is none
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return Path(found) if found else _of_playwright()


def install_browser() -> Path:
    """
    Find a Chromium, or install one: Playwright's own, or where its host is out of reach, Debian's.

    :return: the executable
    :raises BrowserMissingError: if there is none and none can be installed
    """
    tried: list[str] = []
    for attempt in (None, _install_of_playwright, _install_of_debian):
        if attempt is not None:
            tried.append(attempt())
        if (found := find_browser()) is not None:
            return found
    raise BrowserMissingError("\n".join(["There is no Chromium, and none could be installed.", *tried]))


@contextmanager
def running_browser(executable: Path) -> Iterator["Browser"]:
    """
    Run a Chromium without a window, with a profile of its own.

    :param executable: as :func:`find_browser` found it
    """
    from playwright.sync_api import sync_playwright

    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(executable), args=flags)
        try:
            yield browser
        finally:
            browser.close()


def _of_playwright() -> Path | None:
    homes = (os.environ.get("PLAYWRIGHT_BROWSERS_PATH", ""), "~/.cache/ms-playwright", "~/Library/Caches/ms-playwright")
    patterns = ("chromium-*/chrome-linux*/chrome", "chromium-*/chrome-mac*/*.app/Contents/MacOS/*")
    places = [Path(home).expanduser() for home in homes if home]
    found = [path for place in places for pattern in patterns for path in place.glob(pattern)]
    return max(found, default=None)


def _install_of_playwright() -> str:
    try:
        with urllib.request.urlopen(_DOWNLOADS, timeout=_PROBE_TIMEOUT):
            pass
    except urllib.error.HTTPError:
        pass  # any response means that the host is reachable
    except OSError as error:
        return f"{_DOWNLOADS} is out of reach: {error}"
    # Its system packages need root, or sudo that asks nothing.
    deps = ["--with-deps"] if _as_root() is not None else []
    return _run([sys.executable, "-m", "playwright", "install", *deps, "chromium"])


def _install_of_debian() -> str:
    root = _as_root()
    if root is None or shutil.which("apt-get") is None:
        return "apt-get needs root, or sudo without a password."
    options = ["-o", "Acquire::Retries=2", "-o", "DPkg::Lock::Timeout=120"]
    apt_get = [*root, "apt-get", *options]
    updated = _run([*apt_get, "update", "-q"])
    installed = _run([*apt_get, "install", "-q", "-y", "--no-install-recommends", "chromium"])
    return f"{updated}\n{installed}"


def _as_root() -> Sequence[str] | None:
    """Return what to put before a command to run it as root, None if that cannot be."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode:
        return None
    return [sudo, "-n"]


def _run(command: Sequence[str]) -> str:
    """Run an installer and return its last words, with the command before them."""
    environment = child_environment() | {"DEBIAN_FRONTEND": "noninteractive", "NODE_USE_SYSTEM_CA": "1"}
    print(f"$ {' '.join(command)}", file=sys.stderr, flush=True)
    try:
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)} did not end within {_TIMEOUT:g} s."
    words = f"{run.stdout}\n{run.stderr}".strip().splitlines()[-_LINES_OF_A_FAILURE:]
    return "\n".join([f"{' '.join(command)} ended with {run.returncode}:", *words])


def main() -> int:
    """
    Find or install it.

    :return: exit status
    """
    try:
        print(install_browser())
    except BrowserMissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
