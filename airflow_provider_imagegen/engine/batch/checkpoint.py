"""The state of a batch, and its checkpoint: one object beside the ledger, from which a deferred batch goes on.

Rows that have ended stay as they are, failures too; open rows are known by the ids of their tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Self

from airflow_provider_imagegen.engine.batch.limits import CircuitBreaker
from airflow_provider_imagegen.engine.batch.result_file import ResultFile
from airflow_provider_imagegen.engine.batch.results import OpenRow, RowResult
from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.exceptions import InvalidRequest, LedgerCorrupt
from airflow_provider_imagegen.ledger.documents import read_document, write_document
from airflow_provider_imagegen.schemas import MissingImage, OpenTask, SlotWait, Submission
from airflow_provider_imagegen.schemas.base import PersistedModel

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class Header(PersistedModel):
    """The first line of a checkpoint: the digest of all rows, the start, and how many results and open rows follow.

    :param lost: Rows in a row, up to now, that were paid for and did not arrive; for the circuit breaker.
    :param forbidden: Likewise those that were answered with a 403.
    :param stopped_by: Why nothing more is sent; ``None`` while all is well.
    :param seconds_each: How long rows took that began and ended in one worker; ``None`` if none did.
    """

    version: int = 1
    rows: str
    started_at: float
    results: int
    open: int
    lost: int = 0
    forbidden: int = 0
    stopped_by: MissingImage | None = None
    seconds_each: float | None = None


@dataclass
class BatchState:
    """A batch as far as it is.

    :param started_at: Unix seconds.
    :param open: Rows that wait at the gateway, by their numbers; with ``slot``, only some of their calls do.
    :param refused: Set once a row was left to the next worker because the gateway had no slot for it.
    :param seconds_each: See :class:`Header`.
    """

    rows: Sequence[Row]
    results: ResultFile
    started_at: float
    open: dict[int, Submission] = field(default_factory=dict)
    circuit_breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    refused: SlotWait | None = None
    seconds_each: float | None = None

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
        breaker = self.circuit_breaker
        header = Header(
            rows=_digest_of(self.rows),
            started_at=self.started_at,
            results=len(self.results),
            open=len(self.open),
            lost=breaker.lost,
            forbidden=breaker.forbidden,
            stopped_by=breaker.blown_by and MissingImage.because_of(breaker.blown_by, 0),
            seconds_each=self.seconds_each,
        )
        open_rows = (OpenRow(row=number, submission=self.open[number]) for number in sorted(self.open))
        lines = chain([header.model_dump_json()], self.results.lines(), (row.model_dump_json() for row in open_rows))
        write_document(s3, uri, lines)

    @classmethod
    def load(cls, s3: S3Client, uri: str, rows: Sequence[Row], results: ResultFile, gateway: str) -> Self:
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
        breaker = CircuitBreaker(header.lost, header.forbidden)
        breaker.blown_by = header.stopped_by.as_error(gateway) if header.stopped_by else None
        state = cls(rows, results, header.started_at, {row.row: row.submission for row in open_rows}, breaker)
        state.seconds_each = header.seconds_each
        return state


def _digest_of(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.number} {row.key} {row.request.model_dump_json(exclude_unset=True)}\n".encode())
    return digest.hexdigest()
