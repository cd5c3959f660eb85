"""The records of a ledger, as the command line reads them, and claims as old as they are by a real retry."""

from __future__ import annotations

import time

from airflow_provider_imagegen.cli.records import StoredRecord, locations, read
from airflow_provider_imagegen.ledger.models import Entry
from airflow_provider_imagegen.ledger.store import Ledger

RETRY_DELAY = 3600.0
"""Seconds between a try that died and the next one."""


def entries_of(ledger: Ledger) -> list[Entry]:
    """Return every record, in order of keys.

    :param ledger: A ledger.
    """
    return [stored.entry for stored in _filed(ledger)]


def age_claims(ledger: Ledger) -> None:
    """Rewrite every claim as if it were an hour old, so that a retry knows without waiting what was never sent.

    :param ledger: A ledger.
    """
    then = time.time() - RETRY_DELAY
    for stored in _filed(ledger):
        if stored.record.state == "claimed":
            ledger.update(stored.location.key, stored.entry, claimed_at=then, updated_at=then)


def _filed(ledger: Ledger) -> list[StoredRecord]:
    stored, unreadable = read(ledger, locations(ledger))
    assert not unreadable
    return sorted(stored, key=lambda stored: stored.location.uri)
