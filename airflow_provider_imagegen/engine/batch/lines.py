"""From bytes to lines of text, however long the stream: no more than one line is held.

A damaged line does not end the reading; the formats ask after each record whether one of its lines was.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

MAX_LINE_BYTES = 1024 * 1024
"""Longest line; the longest prompt of any known model has 128 KB."""


class Fault(NamedTuple):
    """What is wrong with a line."""

    line: int
    words: str


class Lines:
    """Iterates over the lines of a byte stream, newlines included, a byte order mark left out.

    :param chunks: The bytes, cut anywhere.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._lines = _split(chunks)
        self._fault: Fault | None = None
        self.number = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > MAX_LINE_BYTES:
            self._note(f"the line is longer than {MAX_LINE_BYTES} bytes")
            return "\n"
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self._note(f"byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8")
            return line.decode(errors="replace")

    def take_fault(self) -> Fault | None:
        """Return the first fault since the last time this was asked."""
        fault, self._fault = self._fault, None
        return fault

    def _note(self, words: str) -> None:
        self._fault = self._fault or Fault(self.number, words)


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines; of one that is too long only its beginning, one byte more than allowed."""
    rest = b""
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest = _joined(rest, first)
        for other in others:
            yield rest + b"\n" if len(rest) < MAX_LINE_BYTES else rest
            rest = _joined(b"", other)
    if rest:
        yield rest


def _joined(start: bytes, more: bytes) -> bytes:
    return start + more[: MAX_LINE_BYTES + 1 - len(start)]
