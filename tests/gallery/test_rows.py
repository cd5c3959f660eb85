"""Rows of a batch, found in a file that is read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.gallery.rows import Line, RowFile


class Source:
    """A file that counts what is read of it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.read = 0

    def __call__(self, start: int, size: int) -> bytes:
        self.read += size
        return self.content[start : start + size]

    def file(self) -> RowFile:
        return RowFile(self, len(self.content))


def line_of(number: int, filler: int = 0) -> bytes:
    return json.dumps({"row": number, "key": f"row-{number}{'x' * filler}", "status": "landed"}).encode() + b"\n"


def texts(lines: list[Line]) -> list[bytes]:
    return [line.text + b"\n" for line in lines]


class TestLines:
    def test_tell_where_they_stand(self) -> None:
        source = Source(b"".join(map(line_of, range(1000))))
        for line in source.file().lines():
            assert source.content[line.start : line.end] == line.text + b"\n"

    @given(st.lists(st.integers(0, 60), max_size=30), st.data(), st.integers(1, 50))
    def test_begin_in_the_stretch_whatever_the_pieces(
        self, fillers: list[int], data: st.DataObject, piece: int
    ) -> None:
        lines = [line_of(number, filler) for number, filler in enumerate(fillers)]
        content = b"".join(lines)
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, len(content)))
        starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
        expected = [line for line, begins in zip(lines, starts, strict=True) if start <= begins < end]
        assert texts(list(Source(content).file().lines(start, end, piece))) == expected

    def test_need_no_newline_at_the_end(self) -> None:
        assert len(list(Source(line_of(0) + line_of(1).rstrip()).file().lines())) == 2

    def test_leave_overlong_ones_out(self) -> None:
        content = line_of(0) + line_of(1, 3_000_000) + line_of(2)
        assert [line.number for line in Source(content).file().lines()] == [0, 2]

    @pytest.mark.parametrize("text", [b"{", b"[]", b"null", b'{"row": "1"}', b"\xff"])
    def test_are_no_rows_if_they_cannot_be_understood(self, text: bytes) -> None:
        line = Line(0, len(text), text)
        assert line.row() is None
        assert line.number is None


class TestFind:
    def test_reads_little_of_a_long_file(self) -> None:
        source = Source(b"".join(line_of(number, number % 700) for number in range(100_000)))
        for number in (0, 1, 31_415, 99_999):
            source.read = 0
            row = source.file().find(number)
            assert row is not None
            assert row.row == number
            assert source.read < 1_200_000 < len(source.content) / 10

    def test_takes_a_hint(self) -> None:
        source = Source(b"".join(map(line_of, range(10_000))))
        (line,) = (line for line in source.file().lines() if line.number == 7_777)
        source.read = 0
        row = source.file().find(7_777, line.start)
        assert row is not None
        assert row.row == 7_777
        assert source.read < 20_000

    @pytest.mark.parametrize("hint", [1, 10**12, -1])
    def test_survives_a_wrong_hint(self, hint: int) -> None:
        row = Source(b"".join(map(line_of, range(5_000)))).file().find(1_234, hint)
        assert row is not None
        assert row.row == 1_234

    def test_knows_what_is_not_there(self) -> None:
        even: Callable[[int], bytes] = lambda number: line_of(2 * number)  # noqa: E731
        file = Source(b"".join(map(even, range(5_000)))).file()
        assert file.find(4_001) is None
        assert file.find(10_000) is None
        assert Source(b"").file().find(0) is None
