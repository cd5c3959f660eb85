"""The records of a ledger, as the command line reads them."""

from __future__ import annotations

from typing import Any

from airflow_provider_imagegen.cli.reading import places, read
from airflow_provider_imagegen.ledger import Entry, Ledger


def entries_of(ledger: Ledger, s3: Any) -> list[Entry]:
    """Return every record, in order of keys.

    :param ledger: A ledger.
    :param s3: A client of its S3 server.
    """
    contents = read(ledger, places(s3, ledger.bucket, ledger.prefix))
    assert not contents.unreadable
    return [filed.entry for filed in sorted(contents.filed, key=lambda filed: filed.place.uri)]
