"""The rows of a batch, read from ``manifest.jsonl`` in S3 piece by piece: it may have a hundred thousand. Blocking.

The lines stand in order of rows, so one row is found by halving.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from airflow_provider_imagegen.engine.batch.input import MAX_LINE_BYTES
from airflow_provider_imagegen.engine.batch.results import RowResult

PIECE = 256 * 1024
_PROBE = 16 * 1024
_HALVED_TO = 64 * 1024


class Source(Protocol):
    """Hands out stretches of the file."""

    def __call__(self, start: int, size: int) -> bytes:
        """Return a stretch, shorter at the end of the file."""
        ...


@dataclass(frozen=True)
class Line:
    """A line of the file.

    :param start: Where it begins.
    :param end: Where the next one begins.
    """

    start: int
    end: int
    text: bytes

    def row(self) -> RowResult | None:
        """Return the row it tells of; ``None`` if it cannot be understood."""
        try:
            return RowResult.model_validate_json(self.text)
        except ValidationError:
            return None

    @property
    def number(self) -> int | None:
        """The row's position in the batch."""
        try:
            number = json.loads(self.text)["row"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return number if isinstance(number, int) else None


class RowFile:
    """A file of rows.

    :param read: Reads it.
    :param size: Its size in bytes.
    """

    def __init__(self, read: Source, size: int) -> None:
        self._read = read
        self._size = size

    def lines(self, start: int = 0, end: int | None = None, piece: int = PIECE) -> Iterator[Line]:
        """Yield the lines that begin in a stretch; overlong ones are left out.

        :param start: Where to begin; in the middle of a line, its rest is left out.
        :param end: Where to end; by default at the end of the file.
        :param piece: Bytes to read at once.
        """
        end = self._size if end is None else min(end, self._size)
        # The byte before tells whether a line begins at the start.
        position = line_start = max(0, start - 1)
        is_rest = start > 0
        pending = b""
        while position < self._size and line_start < end:
            read = self._read(position, min(piece, self._size - position))
            if not read:
                return
            position += len(read)
            *texts, pending = (pending + read).split(b"\n")
            for text in texts:
                line_end = line_start + len(text) + 1
                if not is_rest and line_start < end and len(text) <= MAX_LINE_BYTES:
                    yield Line(line_start, line_end, text)
                is_rest, line_start = False, line_end
            if len(pending) > MAX_LINE_BYTES:
                is_rest, line_start, pending = True, position, b""
        if pending and not is_rest and line_start < end:
            yield Line(line_start, self._size, pending)

    def find(self, number: int, hint: int | None = None) -> RowResult | None:
        """Return a row by its position in the batch; ``None`` if it is not there.

        :param hint: Where its line may begin.
        """
        if hint is not None and 0 <= hint < self._size:
            line = next(self.lines(hint, piece=_PROBE), None)
            if line is not None and line.start == hint and line.number == number:
                return line.row()
        low, high = 0, self._size
        while high - low > _HALVED_TO:
            middle = (low + high) // 2
            line = next(self.lines(middle, high, _PROBE), None)
            if line is None or line.number is None or line.number > number:
                high = middle
            elif line.number == number:
                return line.row()
            else:
                low = line.start
        return next((line.row() for line in self.lines(low, high) if line.number == number), None)
