"""The results of a batch, line by line in a temporary file: a hundred thousand rows fit into little memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from typing import IO

from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.engine.batch.summary import Tally
from airflow_provider_imagegen.storage.tempfiles import temp_file_errors


class ResultFile:
    """Results as they come, in any order; a context manager."""

    def __init__(self) -> None:
        self._file: IO[bytes] = _new_file()
        self._starts: dict[int, int] = {}
        self._landed: set[int] = set()
        self.tally = Tally()

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, row: int) -> bool:
        return row in self._starts

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def landed(self) -> list[int]:
        """Rows that landed, in order."""
        return sorted(self._landed)

    def add(self, result: RowResult) -> None:
        """Note what became of a row.

        :raises TempFileFailed: If the disk does not take it.
        """
        with temp_file_errors():
            self._starts[result.row] = self._file.seek(0, 2)
            self._file.write(result.model_dump_json(exclude_defaults=True).encode() + b"\n")
        if result.status == "landed":
            self._landed.add(result.row)
        self.tally.add(result)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines, in order of rows."""
        for _, start in sorted(self._starts.items()):
            self._file.seek(start)
            yield self._file.readline()

    def as_file(self) -> closing[IO[bytes]]:
        """Return all lines, in order of rows, as a file to be opened by ``with``. Blocking.

        :raises TempFileFailed: If the disk does not take it.
        """
        ordered = _new_file()
        with temp_file_errors():
            ordered.writelines(self.lines())
        return closing(ordered)


def _new_file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="imagegen-batch-")
