"""The state of a batch, and its checkpoint: one object beside the ledger, from which a deferred batch goes on.

Rows that have ended stay as they are, failures too; open rows are known by the ids of their tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Self

from airflow_provider_imagegen.engine.batch.result_file import ResultFile
from airflow_provider_imagegen.engine.batch.results import OpenRow, RowResult
from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.exceptions import InvalidRequest, LedgerCorrupt
from airflow_provider_imagegen.ledger.documents import read_document, write_document
from airflow_provider_imagegen.schemas import OpenTask, Submission
from airflow_provider_imagegen.schemas.base import PersistedModel

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class Header(PersistedModel):
    """The first line of a checkpoint: the digest of all rows, the start, and how many results and open rows follow."""

    version: int = 1
    rows: str
    started_at: float
    results: int
    open: int


@dataclass
class BatchState:
    """A batch as far as it is, begun at a time in unix seconds; open rows wait at the gateway, by their numbers."""

    rows: Sequence[Row]
    results: ResultFile
    started_at: float
    open: dict[int, Submission] = field(default_factory=dict)

    @property
    def fresh(self) -> list[Row]:
        """Rows that are still to begin."""
        return [row for row in self.rows if row.number not in self.results and row.number not in self.open]

    @property
    def open_tasks(self) -> tuple[OpenTask, ...]:
        """Tasks of the open rows."""
        return tuple(task for _, submission in sorted(self.open.items()) for task in submission.open)

    def save(self, s3: S3Client, uri: str) -> None:
        """Write the checkpoint. Blocking."""
        counts = {"results": len(self.results), "open": len(self.open)}
        header = Header(rows=_digest_of(self.rows), started_at=self.started_at, **counts)
        open_rows = (OpenRow(row=number, submission=self.open[number]) for number in sorted(self.open))
        lines = chain([header.model_dump_json()], self.results.lines(), (row.model_dump_json() for row in open_rows))
        write_document(s3, uri, lines)

    @classmethod
    def load(cls, s3: S3Client, uri: str, rows: Sequence[Row], results: ResultFile) -> Self:
        """Read the checkpoint, unless the rows are not those that the batch began with. Blocking."""
        lines = read_document(s3, uri)
        try:
            # The counts tell a file that breaks off from a shorter one, whose missing rows would be submitted again.
            header = Header.model_validate_json(next(lines, ""))
            for _ in range(header.results):
                results.add(RowResult.model_validate_json(next(lines, "")))
            open_rows = [OpenRow.model_validate_json(next(lines, "")) for _ in range(header.open)]
        except ValueError:
            raise LedgerCorrupt(f"{uri} cannot be understood") from None
        if header.rows != _digest_of(rows):
            # Results are known by the positions of their rows: another row would be taken for landed.
            allowed = "the same rows as when the batch began; clear the task to begin with these"
            raise InvalidRequest("requests", "(changed)", allowed)
        return cls(rows, results, header.started_at, {row.row: row.submission for row in open_rows})


def _digest_of(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.number} {row.key} {row.request.model_dump_json(exclude_unset=True)}\n".encode())
    return digest.hexdigest()
