"""Where a batch is read from: the operator's argument itself, or a file in S3, streamed.

The batch operator hands what :func:`entries_of` yields to the reading of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_imagegen.engine.batch.formats import Entry, csv_entries, jsonl_entries, list_entries
from airflow_provider_imagegen.exceptions import DestinationError, ImageGenError, InvalidRequest, RowsUnread
from airflow_provider_imagegen.storage.destination import split_uri
from airflow_provider_imagegen.storage.errors import S3_ERRORS, is_not_ours, words_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Largest file of rows."""

_CHUNK_BYTES = 256 * 1024
_ALLOWED = "a list of prompts and dicts, or the address of a file: s3://bucket/key.csv or s3://bucket/key.jsonl"
_FORMATS: dict[str, Callable[[Iterable[bytes]], Iterator[Entry]]] = {"csv": csv_entries, "jsonl": jsonl_entries}


def entries_of(requests: object, s3: S3Client) -> Iterator[Entry]:
    """Yield the entries of a batch as they are read. Blocking: call it from a thread.

    :param requests: A list of prompts and dicts, or ``s3://bucket/key.csv`` or ``.jsonl``.
    :param s3: A boto3 S3 client.
    :raises InvalidRequest: If it is none of these.
    :raises InvalidRows: If the columns of a CSV file are not known.
    :raises DestinationError: If the file is not there, not ours to read, or too large.
    :raises RowsUnread: If S3 did not hand it over.
    """
    if isinstance(requests, Sequence) and not isinstance(requests, str | bytes | bytearray):
        return list_entries(requests)
    if not isinstance(requests, str):
        raise InvalidRequest("requests", "(hidden)" if isinstance(requests, Mapping) else requests, _ALLOWED)
    bucket, key = split_uri(requests)
    entries = _FORMATS.get(key.rpartition(".")[2].lower())
    if not bucket or entries is None:
        raise InvalidRequest("requests", requests, _ALLOWED)
    return entries(_chunks(s3, bucket, key))


def _chunks(s3: S3Client, bucket: str, key: str) -> Iterator[bytes]:
    """Yield an object as it comes; one that breaks off is an error, not a shorter batch."""
    uri = f"s3://{bucket}/{key}"
    try:
        found = s3.get_object(Bucket=bucket, Key=key)
        size = found["ContentLength"]
        if size > MAX_FILE_BYTES:
            raise DestinationError(f"{uri} has {size} bytes, more than {MAX_FILE_BYTES}", advice="Split the file.")
        with closing(found["Body"]) as body:
            yield from body.iter_chunks(_CHUNK_BYTES)
    except S3_ERRORS as error:
        raise _unread(uri, error) from None


def _unread(uri: str, error: BaseException) -> ImageGenError:
    message = f"{uri} cannot be read: {words_of(error)}"
    if is_not_ours(error):
        return DestinationError(message, advice="Correct requests, or the AWS connection's permissions.")
    return RowsUnread(message)
