"""How far a batch is when it defers: one object beside its ledger, from which the worker goes on afterwards.

What has ended stays as it is, failures too; what is open is known by the ids of its tasks.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pydantic import ValidationError

from airflow_provider_imagegen.engine.batch.result_file import ResultFile
from airflow_provider_imagegen.engine.batch.results import OpenRow, RowResult
from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.exceptions import LedgerCorrupt, LedgerError
from airflow_provider_imagegen.failpoints import Failpoint, failpoint
from airflow_provider_imagegen.ledger.models import Attempt, LedgerKey
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas.base import PersistedModel
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.storage.errors import S3_ERRORS, words_of
from airflow_provider_imagegen.storage.objects import ObjectStore
from airflow_provider_imagegen.storage.tempfiles import temp_file_errors

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class Header(PersistedModel):
    """The first line of a checkpoint; results follow, then open rows.

    :param rows: SHA-256 of the rows the batch was made of.
    :param started_at: Unix seconds.
    :param results: Number of results.
    :param open: Number of open rows.
    """

    version: int = 1
    rows: str
    started_at: float
    results: int
    open: int


class Checkpoint:
    """The checkpoint of one try. Blocking: use it in a thread.

    :param s3: A boto3 S3 client.
    :param ledger: Where the batch's records are.
    :param attempt: Whose it is.
    """

    def __init__(self, s3: S3Client, ledger: Ledger, attempt: Attempt) -> None:
        self._s3 = s3
        self._bucket = ledger.bucket
        scope = LedgerKey.of(attempt, "task", 0, "").scope
        # Not .json: it is no record.
        self._key = f"{ledger.prefix}/{scope}/batch.{attempt.try_number}.jsonl"
        self._store = ObjectStore(s3, Destination(bucket=ledger.bucket, prefix=ledger.prefix))

    @property
    def uri(self) -> str:
        """Its address."""
        return f"s3://{self._bucket}/{self._key}"

    def save(self, header: Header, sheet: ResultFile, open_rows: Iterable[OpenRow]) -> None:
        """Write it.

        :raises TempFileFailed: If the disk does not take it on its way.
        :raises UploadFailed: If S3 does not take it.
        """
        with tempfile.TemporaryFile(prefix="imagegen-batch-") as file:
            with temp_file_errors():
                file.write(_line(header))
                file.writelines(sheet.lines())
                file.writelines(map(_line, open_rows))
            with failpoint(Failpoint.PUT_CHECKPOINT):
                self._store.put_file(self._key, file, "application/jsonl")

    def load(self, sheet: ResultFile) -> tuple[Header, list[OpenRow]]:
        """Read it.

        :param sheet: Takes the results.
        :raises LedgerError: If S3 does not hand it over.
        :raises LedgerCorrupt: If it cannot be understood.
        """
        with self._fetched() as lines:
            try:
                header = Header.model_validate_json(next(lines, b""))
                for _ in range(header.results):
                    sheet.add(RowResult.model_validate_json(next(lines, b"")))
                return header, [OpenRow.model_validate_json(next(lines, b"")) for _ in range(header.open)]
            except ValidationError:
                raise LedgerCorrupt(f"{self.uri} cannot be understood") from None

    @contextmanager
    def _fetched(self) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryFile(prefix="imagegen-batch-") as file, temp_file_errors():
            try:
                for chunk in self._s3.get_object(Bucket=self._bucket, Key=self._key)["Body"].iter_chunks(256 * 1024):
                    file.write(chunk)
            except S3_ERRORS as error:
                raise LedgerError(f"{self.uri} cannot be read: {words_of(error)}") from None
            file.seek(io.SEEK_SET)
            yield file


def digest_of(rows: Iterable[Row]) -> str:
    """Return the SHA-256 of a batch: of every row's position, key and request."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.number} {row.key} {row.request.model_dump_json(exclude_unset=True)}\n".encode())
    return digest.hexdigest()


def _line(model: PersistedModel) -> bytes:
    return model.model_dump_json(exclude_defaults=True).encode() + b"\n"
