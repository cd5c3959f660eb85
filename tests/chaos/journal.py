"""A log of events with times, written to a file and to the console."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console


class Journal:
    """
    One experiment's diary.

    :param path: the file
    :param console: where it is shown too; None shows nothing
    """

    def __init__(self, path: Path, console: Console | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", buffering=1)
        self._console = console
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._started

    def tell(self, line: str) -> None:
        """Write a line."""
        self._file.write(f"{time.strftime('%H:%M:%S')} {self.elapsed:7.1f} s  {line}\n")
        if self._console is not None:
            self._console.print(f"{self.elapsed:7.1f} s  {line}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
