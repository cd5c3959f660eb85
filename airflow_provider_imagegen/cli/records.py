"""Reads a whole ledger for people: every record, those that cannot be understood by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_imagegen.exceptions import DestinationError, LedgerCorrupt
from airflow_provider_imagegen.ledger.models import Entry, LedgerKey, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.storage.errors import S3_ERRORS, words_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

AT_ONCE = 10
"""Records to read at once: as many connections as a boto3 client keeps."""

_NAME = re.compile(r"(?P<scope>[^/]+)/(?P<item>\d+)-(?P<fingerprint>[0-9a-f]+)\.(?P<generation>\d+)\.json")


@dataclass(frozen=True)
class Place:
    """Where a record stands.

    :param uri: Its address.
    :param key: What it is filed under.
    :param generation: Which generation of it.
    :param newest: The newest generation under the same key.
    """

    uri: str
    key: LedgerKey
    generation: int
    newest: int


@dataclass(frozen=True)
class Filed:
    """A record and where it stands."""

    place: Place
    entry: Entry

    @property
    def record(self) -> LedgerRecord:
        """What it says."""
        return self.entry.record


@dataclass(frozen=True)
class Contents:
    """What was read.

    :param filed: The records, by time of claim.
    :param unreadable: Addresses of records that cannot be understood.
    """

    filed: tuple[Filed, ...]
    unreadable: tuple[str, ...]


def places(s3: S3Client, bucket: str, prefix: str) -> list[Place]:
    """List where records stand.

    :raises DestinationError: If the bucket cannot be listed.
    """
    start = f"{prefix.strip('/')}/"
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
        names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    except S3_ERRORS as error:
        raise _unlistable(bucket, error) from None
    found = [(name, match) for name in names if (match := _NAME.fullmatch(name.removeprefix(start)))]
    newest: dict[str, int] = {}
    for name, match in found:
        newest[_without_generation(name)] = max(newest.get(_without_generation(name), 0), int(match["generation"]))
    return [
        Place(
            uri=f"s3://{bucket}/{name}",
            key=LedgerKey(match["scope"], int(match["item"]), match["fingerprint"]),
            generation=int(match["generation"]),
            newest=newest[_without_generation(name)],
        )
        for name, match in found
    ]


def read(ledger: Ledger, where: Sequence[Place]) -> Contents:
    """Read records, several at once.

    :raises LedgerError: If S3 fails.
    """

    def read_one(place: Place) -> Filed | str | None:
        try:
            entry = ledger.read(place.key, place.generation)
        except LedgerCorrupt:
            return place.uri
        return Filed(place, entry) if entry else None

    results = _side_by_side(read_one, where)
    filed = [result for result in results if isinstance(result, Filed)]
    return Contents(
        filed=tuple(sorted(filed, key=lambda one: (one.record.claimed_at, one.place.uri))),
        unreadable=tuple(result for result in results if isinstance(result, str)),
    )


def _side_by_side(read_one: Callable[[Place], Filed | str | None], where: Sequence[Place]) -> list[Filed | str | None]:
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="imagegen-ledger") as pool:
        return list(pool.map(read_one, where))


def _without_generation(name: str) -> str:
    return name.removesuffix(".json").rpartition(".")[0]


def _unlistable(bucket: str, error: BaseException) -> DestinationError:
    return DestinationError(
        f"bucket {bucket!r} cannot be listed: {words_of(error)}", advice="Check --bucket and --aws-conn-id."
    )
