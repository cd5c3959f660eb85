"""The records of a ledger, as the command line reads them, and claims as old as they are by a real retry."""

from __future__ import annotations

import time
from typing import Any

from airflow_provider_imagegen.cli.records import StoredRecord, locations, read
from airflow_provider_imagegen.ledger.models import Entry
from airflow_provider_imagegen.ledger.store import Ledger

RETRY_DELAY = 3600.0
"""Seconds between a try that died and the next one."""


def entries_of(ledger: Ledger, s3: Any) -> list[Entry]:
    """Return every record, in order of keys.

    :param ledger: A ledger.
    :param s3: A client of its S3 server.
    """
    return [stored.entry for stored in _filed(ledger, s3)]


def age_claims(ledger: Ledger, s3: Any) -> None:
    """Rewrite every claim as if it were an hour old, so that a retry knows without waiting what was never sent.

    :param ledger: A ledger.
    :param s3: A client of its S3 server.
    """
    then = time.time() - RETRY_DELAY
    for stored in _filed(ledger, s3):
        if stored.record.state == "claimed":
            ledger.update(stored.location.key, stored.entry, claimed_at=then, updated_at=then)


def _filed(ledger: Ledger, s3: Any) -> list[StoredRecord]:
    stored, unreadable = read(ledger, locations(s3, ledger.bucket, ledger.prefix))
    assert not unreadable
    return sorted(stored, key=lambda stored: stored.location.uri)
