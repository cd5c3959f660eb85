"""A batch is read from a list or, streamed, from a real S3 server; a file that cannot be read whole is an error."""

from __future__ import annotations

import threading
import tracemalloc
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from airflow_provider_imagegen.engine.batch.input import MAX_FILE_BYTES, entries_of
from airflow_provider_imagegen.engine.batch.rows import Rows, read_rows
from airflow_provider_imagegen.exceptions import DestinationError, InvalidRequest, RowsUnread
from tests.conftest import BUCKET
from tests.stack.fault_proxy import Fault, FaultProxy
from tests.stack.object_store import ObjectStore


@pytest.fixture
def proxy(object_store: ObjectStore) -> Iterator[FaultProxy]:
    with FaultProxy(int(object_store.endpoint.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def s3(object_store: ObjectStore, proxy: FaultProxy) -> Iterator[Any]:
    client = object_store.client(endpoint_url=proxy.endpoint)
    yield client
    client.close()


def read(requests: object, s3: Any) -> Rows:
    return read_rows(entries_of(requests, s3), {"model": "m"}, lambda _: None)


def stored(s3: Any, content: bytes, extension: str) -> str:
    key = f"batches/{uuid.uuid4()}.{extension}"
    s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    return f"s3://{BUCKET}/{key}"


class CutShort(BaseHTTPRequestHandler):
    """Answers every GET with the beginning of a file."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"prompt\na cat\n")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def breaking_s3(object_store: ObjectStore) -> Iterator[Any]:
    with HTTPServer(("127.0.0.1", 0), CutShort) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = object_store.client(endpoint_url=f"http://127.0.0.1:{server.server_port}")
        yield client
        client.close()
        server.shutdown()
        thread.join()


class TestFiles:
    @pytest.mark.parametrize(
        ("extension", "content"),
        [
            ("csv", 'prompt,key\r\n"a cat, asleep",cat\r\na dog,\r\n'),
            ("CSV", '\ufeffprompt;key\n"a cat, asleep";cat\na dog;\n'),
            ("jsonl", '{"prompt": "a cat, asleep", "key": "cat"}\n"a dog"'),
        ],
    )
    def test_give_their_rows(self, s3: Any, extension: str, content: str) -> None:
        rows = read(stored(s3, content.encode(), extension), s3)
        assert [(row.key, row.request.prompt) for row in rows.valid] == [("cat", "a cat, asleep"), ("00001", "a dog")]

    def test_are_never_whole_in_memory(self, s3: Any) -> None:
        uri = stored(s3, (b'{"prompt": "a cat", "user": "' + b"x" * 900_000 + b'"}\n') * 40, "jsonl")
        tracemalloc.start()
        entries = sum(1 for _ in entries_of(uri, s3))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert entries == 40
        assert peak < 10_000_000


class TestWhatCannotBeRead:
    @pytest.mark.parametrize(
        "requests",
        [
            "a cat",
            "s3://bucket",
            "s3://bucket/rows.parquet",
            "s3:///rows.csv",
            "https://x/rows.csv",
            {"prompt": "p"},
            7,
        ],
    )
    def test_is_refused_when_it_is_no_list_and_no_address(self, s3: Any, requests: object) -> None:
        with pytest.raises(InvalidRequest, match=r"requests=.* a list of prompts and dicts, or the address of a file"):
            read(requests, s3)

    @pytest.mark.parametrize("uri", [f"s3://{BUCKET}/no/such.csv", "s3://no-such-bucket/rows.csv"])
    def test_is_reported_when_it_is_missing(self, s3: Any, uri: str) -> None:
        with pytest.raises(DestinationError, match=f"{uri} cannot be read") as caught:
            read(uri, s3)
        assert "Correct requests" in str(caught.value)

    def test_is_reported_when_it_is_too_large(self, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_imagegen.engine.batch.input.MAX_FILE_BYTES", 10)
        with pytest.raises(DestinationError, match="has 14 bytes, more than 10"):
            read(stored(s3, b"prompt\na cat\n\n", "csv"), s3)
        assert MAX_FILE_BYTES == 256 * 1024 * 1024

    def test_can_be_tried_again_when_s3_fails(self, s3: Any, proxy: FaultProxy) -> None:
        uri = stored(s3, b"prompt\na cat\n", "csv")
        proxy.arm(Fault("refuse", method="GET", times=None))
        with pytest.raises(RowsUnread, match="cannot be read: Refused"):
            read(uri, s3)

    def test_is_no_shorter_batch_when_the_file_breaks_off(self, breaking_s3: Any) -> None:
        with pytest.raises(RowsUnread, match=r"s3://b/rows\.csv cannot be read"):
            read("s3://b/rows.csv", breaking_s3)
