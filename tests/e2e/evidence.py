"""All output of a run as text: logs, database, REST responses, S3 objects, the emulator's ledger."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy

from tests.stack.stack import Stack

# They print secrets for the user who started them, or log what they receive.
_NOT_OURS = frozenset({"emulator.log", "seaweedfs.log", "postgresql.log"})
# Where Airflow keeps secrets.
_VAULTS = frozenset({"connection", "variable"})
_BYTES = re.compile(r"\\\\x((?:[0-9a-f]{2})+)")
_AROUND = 60
_MOST_OF_A_KEY = 4
"""XComs of one key that the API is asked for; the values of all are in the tables."""


@dataclass(frozen=True)
class Trace:
    """
    One thing left behind.

    :param place: where it was found
    :param text: what it says
    """

    place: str
    text: str


@dataclass(frozen=True)
class Find:
    """A secret in a place where it should not be."""

    secret: str
    place: str
    excerpt: str

    def __str__(self) -> str:
        return f"{self.secret} in {self.place}: {self.excerpt}"


def collect(stack: Stack, dag_id: str) -> list[Trace]:
    """
    Gather all that a stack's runs left behind.

    :param stack: where they ran
    :param dag_id: whose tasks and XComs the API is asked for; all there are, are in the tables
    """
    return [*_logs(stack), *_tables(stack), *_answers(stack, dag_id), *_objects(stack), *_books(stack)]


def find(secrets: Mapping[str, re.Pattern[str]], traces: list[Trace]) -> list[Find]:
    """
    Look for secrets.

    :param secrets: how each is recognised, by its name
    :param traces: where to look
    """
    return [
        Find(name, trace.place, trace.text[max(0, match.start() - _AROUND) : match.end() + _AROUND])
        for trace in traces
        for name, pattern in secrets.items()
        if (match := pattern.search(trace.text))
    ]


def _logs(stack: Stack) -> Iterator[Trace]:
    for path in sorted(stack.logs.rglob("*")):
        if path.is_file() and path.name not in _NOT_OURS:
            yield Trace(f"log {path.relative_to(stack.logs)}", path.read_text(errors="replace"))


def _tables(stack: Stack) -> Iterator[Trace]:
    engine = sqlalchemy.create_engine(stack.database.url)
    try:
        with engine.connect() as connection:
            for table in sorted(set(sqlalchemy.inspect(engine).get_table_names()) - _VAULTS):
                rows = connection.execute(sqlalchemy.text(f'SELECT to_jsonb(t)::text FROM "{table}" t'))
                for number, (row,) in enumerate(rows):
                    yield Trace(f"table {table}, row {number}", _BYTES.sub(_decoded, row))
    finally:
        engine.dispose()


def _decoded(match: re.Match[str]) -> str:
    """Show the bytes that PostgreSQL shows as hexadecimal digits."""
    return bytes.fromhex(match[1]).decode("latin-1")


def _answers(stack: Stack, dag_id: str) -> Iterator[Trace]:
    """Ask the API as its pages do: task instances with rendered fields, XComs, the audit log."""
    everything = f"dags/{dag_id}/dagRuns/~/taskInstances"
    for listed in _pages(stack, everything, "task_instances"):
        # Some releases leave rendered fields out of lists.
        task = listed if listed.get("rendered_fields") else _alone(stack, listed)
        yield Trace(f"task instance {task['task_id']} {task['map_index']}", json.dumps(task))
    keys: Counter[str] = Counter()
    # The decoy's first: it must be found there.
    entries = _pages(stack, f"{everything}/~/xcomEntries", "xcom_entries")
    for entry in sorted(entries, key=lambda entry: entry["task_id"] != "leak"):
        keys[entry["key"]] += 1
        if keys[entry["key"]] > _MOST_OF_A_KEY:
            continue
        run, task_id = f"dags/{entry['dag_id']}/dagRuns/{entry['run_id']}", entry["task_id"]
        path = f"{run}/taskInstances/{task_id}/xcomEntries/{entry['key']}"
        value = stack.client.request("GET", path, map_index=entry["map_index"])
        yield Trace(f"XCom {entry['key']} of {task_id} {entry['map_index']}", json.dumps(value))
    for event in _pages(stack, "eventLogs", "event_logs"):
        yield Trace(f"event log {event['event_log_id']}", json.dumps(event))


def _alone(stack: Stack, task: dict[str, Any]) -> dict[str, Any]:
    path = f"dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}"
    alone: dict[str, Any] = stack.client.request(
        "GET", path if task["map_index"] < 0 else f"{path}/{task['map_index']}"
    )
    return alone


def _pages(stack: Stack, path: str, name: str) -> Iterator[dict[str, Any]]:
    offset, total = 0, 1
    while offset < total:
        page = stack.client.request("GET", path, limit=100, offset=offset)
        yield from page[name]
        offset, total = offset + 100, page["total_entries"]


def _objects(stack: Stack) -> Iterator[Trace]:
    s3, bucket = stack.objectstore.client(), stack.objectstore.bucket
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            found = s3.get_object(Bucket=bucket, Key=entry["Key"])
            head = json.dumps({name: found.get(name) for name in ("Metadata", "ContentType", "CacheControl")})
            yield Trace(f"object {entry['Key']}", f"{entry['Key']} {head} {found['Body'].read().decode('latin-1')}")


def _books(stack: Stack) -> Iterator[Trace]:
    for row in stack.ledger()["rows"]:
        # The emulator is configured to return this code.
        yield Trace(f"emulator's row of {row['task_id']}", json.dumps(row | {"code": None}))
