"""Documents beside the ledger for the process that goes on with a task: lines of JSON, one object for every try.

The decorator keeps what its function returned across a deferral, a batch its checkpoint, ``wait=False`` what the task
that lands the images must know.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from airflow_provider_imagegen.exceptions import LedgerError
from airflow_provider_imagegen.failpoints import Failpoint, failpoint
from airflow_provider_imagegen.ledger.models import Attempt, LedgerKey
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import OpenTask, Submission
from airflow_provider_imagegen.schemas.base import PersistedModel
from airflow_provider_imagegen.storage.destination import Destination, split_uri
from airflow_provider_imagegen.storage.errors import S3_ERRORS, words_of
from airflow_provider_imagegen.storage.objects import ObjectStore
from airflow_provider_imagegen.storage.tempfiles import temp_file_errors

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

DOCUMENT = re.compile(r"[0-9a-f]{32}/(?P<name>batch|submitted|answer)\.\d+\.jsonl")
"""Key of a document, below the ledger key."""


class Waiting(PersistedModel):
    """A line of a document as far as it says which tasks are waited for."""

    submission: Submission | None = None


def document_uri(ledger: Ledger, attempt: Attempt, name: str) -> str:
    """Return the address of a document of one try."""
    # Under the task instance, not the key of a call: it must be found before any call is planned again.
    scope = LedgerKey.of(attempt, "task", 0, "").scope
    # Not .json: it is no record.
    return f"s3://{ledger.bucket}/{ledger.prefix}/{scope}/{name}.{attempt.try_number}.jsonl"


def write_document(s3: S3Client, uri: str, lines: Iterable[str]) -> None:
    """Write a document of lines, which come without their ends. Blocking."""
    bucket, key = split_uri(uri)
    store = ObjectStore(s3, Destination(bucket=bucket, prefix=""))
    with tempfile.TemporaryFile(prefix="imagegen-note-") as file:
        with temp_file_errors():
            file.writelines(f"{line}\n".encode() for line in lines)
        with failpoint(Failpoint.PUT_CHECKPOINT):
            store.put_file(key, file, "application/jsonl")


def read_document(s3: S3Client, uri: str) -> Iterator[str]:
    """Yield the lines of a document. Blocking."""
    bucket, key = split_uri(uri)
    with tempfile.TemporaryFile(prefix="imagegen-note-") as file:
        # Fetched whole before the first line is used: a consumer may take minutes, and S3 may end the connection.
        try:
            with temp_file_errors():
                for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(256 * 1024):
                    file.write(chunk)
        except S3_ERRORS as error:
            raise LedgerError(f"{uri} cannot be read: {words_of(error)}", billed="unknown") from None
        file.seek(io.SEEK_SET)
        for line in file:
            yield line.decode().rstrip("\n")


def tasks_in(s3: S3Client, uri: str) -> Iterator[OpenTask]:
    """Yield the tasks that a checkpoint or a landing document waits for. Blocking.

    :raises ValueError: If it cannot be understood.
    """
    for line in read_document(s3, uri):
        submission = Waiting.model_validate_json(line).submission
        yield from submission.open if submission else ()
