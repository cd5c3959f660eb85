"""Read a whole ledger for people: every record, those that cannot be understood by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_imagegen.exceptions import DestinationError, LedgerCorrupt
from airflow_provider_imagegen.ledger.models import Entry, LedgerKey, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.storage.errors import S3_ERRORS, words_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# As many connections as a boto3 client keeps: more threads would wait for one, and log a warning each.
AT_ONCE = 10

_NAME = re.compile(r"(?P<scope>[^/]+)/(?P<item>\d+)-(?P<fingerprint>[0-9a-f]+)\.(?P<generation>\d+)\.json")


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


def locations(s3: S3Client, bucket: str, prefix: str) -> list[Location]:
    """List where records stand."""
    start = f"{prefix.strip('/')}/"
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
        names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    except S3_ERRORS as error:
        words = f"bucket {bucket!r} cannot be listed: {words_of(error)}"
        raise DestinationError(words, advice="Check --bucket and --aws-conn-id.") from None
    found: list[tuple[str, LedgerKey, int]] = []
    newest: dict[LedgerKey, int] = {}
    for name in names:
        if match := _NAME.fullmatch(name.removeprefix(start)):
            key = LedgerKey(match["scope"], int(match["item"]), match["fingerprint"])
            generation = int(match["generation"])
            found.append((f"s3://{bucket}/{name}", key, generation))
            newest[key] = max(newest.get(key, 0), generation)
    return [Location(uri, key, generation, newest[key]) for uri, key, generation in found]


def read(ledger: Ledger, where: Sequence[Location]) -> tuple[list[StoredRecord], list[str]]:
    """Read records, several at once.

    :return: The records by time of claim, and the addresses of those that cannot be understood.
    """

    def read_one(location: Location) -> StoredRecord | str | None:
        try:
            entry = ledger.read(location.key, location.generation)
        except LedgerCorrupt:
            return location.uri
        return StoredRecord(location, entry) if entry else None

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="imagegen-ledger") as pool:
        results = list(pool.map(read_one, where))
    stored = [result for result in results if isinstance(result, StoredRecord)]
    stored.sort(key=lambda one: (one.record.claimed_at, one.location.uri))
    return stored, [result for result in results if isinstance(result, str)]
