"""Read a whole ledger for people: every record, those that cannot be understood by name."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from airflow_provider_imagegen.exceptions import LedgerCorrupt
from airflow_provider_imagegen.ledger.models import Entry, LedgerKey, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.storage.client import CONNECTIONS


class Location(NamedTuple):
    """Where a record stands."""

    uri: str
    key: LedgerKey
    generation: int
    newest: int


class StoredRecord(NamedTuple):
    """A record and where it stands."""

    location: Location
    entry: Entry

    @property
    def record(self) -> LedgerRecord:
        """What it says."""
        return self.entry.record


def locations(ledger: Ledger) -> list[Location]:
    """List where records stand."""
    filed = ledger.filed()
    newest: dict[LedgerKey, int] = {}
    for key, generation in filed:
        newest[key] = max(newest.get(key, 0), generation)
    return [Location(ledger.uri(key, generation), key, generation, newest[key]) for key, generation in filed]


def read(ledger: Ledger, where: Sequence[Location]) -> tuple[list[StoredRecord], list[str]]:
    """Read records, several at once; return them by time of claim, and the addresses of those that are damaged."""

    def read_one(location: Location) -> StoredRecord | str | None:
        try:
            entry = ledger.read(location.key, location.generation)
        except LedgerCorrupt:
            return location.uri
        return StoredRecord(location, entry) if entry else None

    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="imagegen-ledger") as pool:
        results = list(pool.map(read_one, where))
    stored = [result for result in results if isinstance(result, StoredRecord)]
    stored.sort(key=lambda one: (one.record.claimed_at, one.location.uri))
    return stored, [result for result in results if isinstance(result, str)]
