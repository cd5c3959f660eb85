"""The input of a batch: a Python list, or a CSV or JSONL file streamed from S3, turned into entries, one a row."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from sys import intern
from typing import IO, TYPE_CHECKING, Any, Never, cast

from airflow_provider_imagegen.exceptions import DestinationError, InvalidRequest, InvalidRow, InvalidRows, RowsUnread
from airflow_provider_imagegen.schemas import ImageRequest
from airflow_provider_imagegen.storage.destination import split_uri
from airflow_provider_imagegen.storage.errors import S3_ERRORS, is_not_ours, words_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024
"""Longest line; the longest prompt of any known model has 128 KB."""

FIELDS = ("key", *ImageRequest.model_fields)
"""The fields of a row: columns of a CSV file, names in a dict."""

_ALLOWED = "a list of prompts and dicts, or the address of a file: s3://bucket/key.csv or s3://bucket/key.jsonl"
_PROSE = frozenset({"prompt", "extra"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One row as it was given, not yet checked."""

    place: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    fault: str | None = None


def entries_of(requests: object, s3: S3Client) -> Iterator[Entry]:
    """Yield the entries of a list of prompts and dicts, or of a CSV or JSONL file in S3. Blocking."""
    if isinstance(requests, Sequence) and not isinstance(requests, str | bytes | bytearray):
        return list_entries(requests)
    if not isinstance(requests, str):
        raise InvalidRequest("requests", "(hidden)" if isinstance(requests, Mapping) else requests, _ALLOWED)
    bucket, key = split_uri(requests)
    read = {"csv": csv_entries, "jsonl": jsonl_entries}.get(key.rpartition(".")[2].lower())
    if not bucket or read is None:
        raise InvalidRequest("requests", requests, _ALLOWED)
    return _file_entries(s3, bucket, key, read)


def _file_entries(s3: S3Client, bucket: str, key: str, read: Callable[[IO[bytes]], Iterator[Entry]]) -> Iterator[Entry]:
    uri = f"s3://{bucket}/{key}"
    try:
        found = s3.get_object(Bucket=bucket, Key=key)
        if (size := found["ContentLength"]) > MAX_FILE_BYTES:
            raise DestinationError(f"{uri} has {size} bytes, more than {MAX_FILE_BYTES}", advice="Split the file.")
        # The body compares the bytes it has read with the announced length at the end: a file that breaks off is an
        # error here, never a shorter batch.
        with closing(io.BufferedReader(cast("io.RawIOBase", found["Body"]), 256 * 1024)) as file:
            yield from read(cast("IO[bytes]", file))
    except S3_ERRORS as error:
        message = f"{uri} cannot be read: {words_of(error)}"
        if is_not_ours(error):
            advice = "Correct requests, or the AWS connection's permissions."
            raise DestinationError(message, advice=advice) from None
        raise RowsUnread(message) from None


class Lines(Iterator[str]):
    """Iterates over the lines of a buffered file, newlines included, a byte order mark left out.

    A damaged line does not end it; the formats ask after each record whether one of its lines was.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._fault: InvalidRow | None = None
        self.number = 0

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line.removesuffix(b"\n")) > MAX_LINE_BYTES:
            self._note(f"the line is longer than {MAX_LINE_BYTES} bytes")
            while line and not line.endswith(b"\n"):
                line = self._file.readline(MAX_LINE_BYTES)
            return "\n"
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self._note(f"byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8")
            # Raising here would make the CSV reader forget that it is inside quotes. It would read the rest of a
            # quoted prompt as rows of its own, and on_invalid="skip" would pay for them.
            return line.decode(errors="replace")

    def take_fault(self) -> InvalidRow | None:
        """Return the first fault since the last call, and forget it."""
        fault, self._fault = self._fault, None
        return fault

    def _note(self, reason: str) -> None:
        self._fault = self._fault or InvalidRow(f"line {self.number}", reason)


def list_entries(requests: Iterable[object]) -> Iterator[Entry]:
    """Yield the entries of a Python list of prompts and dicts."""
    for number, given in enumerate(requests):
        yield _entry(f"requests[{number}]", given)


def jsonl_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Yield the entries of a JSONL file: on each line an object, or a text that is the prompt."""
    lines = Lines(file)
    for text in lines:
        place = f"line {lines.number}"
        if fault := lines.take_fault():
            yield Entry(place, fault=fault.reason)
        elif text.strip():
            try:
                yield _entry(place, json_value(text))
            except ValueError as error:
                yield Entry(place, fault=str(error))


def csv_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Yield the entries of a CSV file whose first line names the columns; empty cells are left out.

    Cells are separated by commas, or by semicolons or tabs if the first line has those and no comma.
    """
    lines = Lines(file)
    header = next(lines, "")
    if fault := lines.take_fault():
        _refuse_header(fault.reason)
    # csv.Sniffer guesses from the cells too, and takes a letter of the prompts for the delimiter.
    delimiter = next((mark for mark in (",", ";", "\t") if mark in header), ",")
    columns = _columns(header, delimiter)
    for place, record in _records(lines, delimiter):
        yield Entry(place, fault=record) if isinstance(record, str) else _csv_entry(place, columns, record)


def json_value(text: str) -> Any:
    """Parse JSON, without the constants that Python adds to the standard; a ``ValueError`` has the reason to show."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is no JSON that can be read: nested too deep") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON that can be read: {error}") from None


def unknown_fields(names: Sequence[str]) -> str:
    """Return the reason to show for names that are no fields of a row."""
    return f"not known: {_quoted(names)}; known are {', '.join(FIELDS)}; put others into extra"


def _entry(place: str, given: object) -> Entry:
    if isinstance(given, str):
        return Entry(place, {"prompt": given})
    if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        return Entry(place, given)
    return Entry(place, fault=f"a prompt or fields by name are expected, not {type(given).__name__}")


def _records(lines: Lines, delimiter: str) -> Iterator[tuple[str, list[str] | str]]:
    """Yield where each record begins, and its cells, or why it has none."""
    # Strict, because a quote that is never closed would quietly make one prompt of all rows that follow.
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        place = f"line {lines.number + 1}"
        record: list[str] | str | None
        try:
            record = next(records, None)
        except csv.Error as error:
            record = f"it is no CSV: {error}"
        if fault := lines.take_fault():
            yield fault.place, fault.reason
        elif record is None:
            return
        elif record:
            yield place, record


def _csv_entry(place: str, columns: Sequence[str], cells: Sequence[str]) -> Entry:
    # csv.DictReader would fill missing cells with None and collect the surplus: a prompt with an unquoted comma would
    # be paid for cut in two.
    if len(cells) < len(columns) or any(cell.strip() for cell in cells[len(columns) :]):
        return Entry(place, fault=f"{len(cells)} cells for {len(columns)} columns; put text with separators in quotes")
    given = ((name, cell) for name, cell in zip(columns, cells, strict=False) if cell.strip())
    # Sizes and models repeat on a hundred thousand rows: one string for all.
    return Entry(place, {name: cell if name in _PROSE else intern(cell.strip()) for name, cell in given})


def _columns(header: str, delimiter: str) -> list[str]:
    try:
        columns = [name.strip() for name in next(csv.reader([header], delimiter=delimiter, strict=True), [])]
    except csv.Error as error:
        _refuse_header(f"it is no CSV: {error}")
    while columns and not columns[-1]:
        columns.pop()
    if header and not columns:
        _refuse_header("it names no columns")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        _refuse_header(f"{_quoted(twice)}: twice among the columns")
    if unknown := [name for name in columns if name not in FIELDS]:
        _refuse_header(unknown_fields(unknown))
    return columns


def _quoted(names: Sequence[str]) -> str:
    """Return names, quoted, few and short."""
    shown = [repr(name if len(name) <= 40 else f"{name[:39]}…") for name in names[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _refuse_header(reason: str) -> Never:
    raise InvalidRows((InvalidRow("line 1", reason),), advice="Correct the file.")


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no number")
