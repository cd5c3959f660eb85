"""The shapes in which a batch comes, each turned into entries: a Python list, CSV, JSONL.

An entry is what one row says, not yet checked, and where it says so.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Never

from airflow_provider_imagegen.engine.batch.lines import Lines
from airflow_provider_imagegen.exceptions import InvalidRow, InvalidRows
from airflow_provider_imagegen.schemas import ImageRequest

FIELDS = ("key", *ImageRequest.model_fields)
"""What a row may say: the columns of a CSV file, the names in a dict."""

_PROSE = frozenset({"prompt", "extra"})


@dataclass(frozen=True, slots=True)
class Entry:
    """What one row says.

    :param place: Where it stands: ``line 7``, or ``requests[6]``.
    :param fields: Names and values.
    :param fault: Why it cannot be read, if so.
    """

    place: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    fault: str | None = None


def list_entries(requests: Iterable[object]) -> Iterator[Entry]:
    """Yield the entries of a Python list of prompts and dicts."""
    for number, given in enumerate(requests):
        yield _entry(f"requests[{number}]", given)


def jsonl_entries(chunks: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries of a JSONL file: on each line an object, or a text that is the prompt.

    :param chunks: The file, cut anywhere.
    """
    lines = Lines(chunks)
    for text in lines:
        place = f"line {lines.number}"
        if fault := lines.take_fault():
            yield Entry(place, fault=fault.words)
        elif text.strip():
            yield _json_entry(place, text)


def csv_entries(chunks: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries of a CSV file whose first line names the columns; empty cells are left out.

    Cells are separated by commas, or by semicolons or tabs if the first line has those and no comma.

    :param chunks: The file, cut anywhere.
    :raises InvalidRows: If its first line cannot be read, or names what is no field of a row.
    """
    lines = Lines(chunks)
    first = next(lines, "")
    if fault := lines.take_fault():
        _refuse_header(fault.words)
    delimiter = _delimiter(first)
    columns = _columns(first, delimiter)
    for place, record in _records(lines, delimiter):
        yield Entry(place, fault=record) if isinstance(record, str) else _csv_entry(place, columns, record)


def json_value(text: str) -> Any:
    """Parse JSON as the standard has it.

    :raises ValueError: If it is none, in words.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is no JSON that can be read: nested too deep") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON that can be read: {error}") from None


def _entry(place: str, given: object) -> Entry:
    if isinstance(given, str):
        return Entry(place, {"prompt": given})
    if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        return Entry(place, given)
    return Entry(place, fault=f"a prompt or fields by name are expected, not {type(given).__name__}")


def _json_entry(place: str, text: str) -> Entry:
    try:
        return _entry(place, json_value(text))
    except ValueError as error:
        return Entry(place, fault=str(error))


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
            yield f"line {fault.line}", fault.words
        elif record is None:
            return
        elif record:
            yield place, record


def _csv_entry(place: str, columns: Sequence[str], cells: Sequence[str]) -> Entry:
    if len(cells) < len(columns) or any(cell.strip() for cell in cells[len(columns) :]):
        return Entry(place, fault=f"{len(cells)} cells for {len(columns)} columns; put text with separators in quotes")
    said = zip(columns, cells, strict=False)
    return Entry(place, {name: _value(name, cell) for name, cell in said if cell.strip()})


def _value(name: str, cell: str) -> str:
    # Sizes and models repeat on a hundred thousand rows: one string for all.
    return cell if name in _PROSE else intern(cell.strip())


def _delimiter(header: str) -> str:
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


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
        _refuse_header(f"{named(twice)}: twice among the columns")
    if unknown := [name for name in columns if name not in FIELDS]:
        _refuse_header(unknown_words(unknown))
    return columns


def unknown_words(names: Sequence[str]) -> str:
    """Return what to say of names that are no fields of a row."""
    return f"not known: {named(names)}; known are {', '.join(FIELDS)}; put others into extra"


def named(names: Sequence[str]) -> str:
    """Return names, quoted, few and short."""
    shown = [repr(name if len(name) <= 40 else f"{name[:39]}…") for name in names[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _refuse_header(words: str) -> Never:
    raise InvalidRows((InvalidRow("line 1", words),), advice="Correct the file.")


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no number")
