"""What others may have changed since it was stored: metadata of objects, records of the ledger as people read them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
from functools import cache
from random import Random
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from airflow_provider_imagegen.cli import advice, ledger_command, tables
from airflow_provider_imagegen.cli.records import locations, read
from airflow_provider_imagegen.exceptions import UploadFailed
from airflow_provider_imagegen.ledger.models import Attempt, LedgerKey, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import ImageTask
from airflow_provider_imagegen.storage.client import add_handlers
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.storage.objects import SHA256, TRACE_ID, ObjectStore
from tests.fuzz.mutations import mutate
from tests.fuzz.odd_json import TEXTS, dumped, spoil

BUCKET, TRACE, DIGEST = "images", "0b6a1d8e-5a51", "5" * 64
_OUTPUTS = ("table", "json", "yaml", "plain")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ATTEMPT = Attempt(dag_id="a dag", task_id="draw", run_id="manual__2026-11-30", process="host:1")
_KEY = LedgerKey.of(_ATTEMPT, "task", 0, "f" * 64)


class Wire:
    """An S3 server that answers with one object, byte for byte, on botocore's own wire."""

    def __init__(self) -> None:
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        self.client = boto3.session.Session().client("s3", endpoint_url="http://s3.invalid", **keys)
        add_handlers(self.client)
        self.client.meta.events.register("before-send.s3", self._answer)
        self.key = ""
        self.headers: dict[str, str] = {}
        self.body = b""

    def _answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        if "list-type=2" in request.url:
            listed = f"<ListBucketResult><Contents><Key>{self.key}</Key></Contents></ListBucketResult>"
            return AWSResponse(request.url, 200, {}, _Raw(listed.encode()))
        usual = {"ETag": '"1"', "Content-Length": str(len(self.body)), "Last-Modified": "Mon, 30 Nov 2026 12:00:00 GMT"}
        return AWSResponse(request.url, 200, usual | self.headers, _Raw(self.body))


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Any:
        yield self.read()


@cache
def wire() -> Wire:
    return Wire()


def metadata(random: Random) -> bytes:
    """Make the headers of an object whose metadata went through stores and proxies."""
    own = {TRACE_ID: TRACE, SHA256: DIGEST, "airflow-dag": random.choice(TEXTS), "model": random.choice(TEXTS)}
    spelled = random.choice((str, str.lower, str.upper, str.title, str.swapcase))
    headers = {spelled(f"x-amz-meta-{name}"): _header(value) for name, value in own.items()}
    is_whole = random.random() < 0.7
    if not is_whole:
        name = random.choice(list(headers))
        headers[name] = random.choice(("", "%", "%ff", "%00", "=?UTF-8?Q?=E4?=", headers.pop(name)[:7], "\xe9" * 9))
    others = ("ETag", "content-type", "x-amz-version-id", "Date", "x-amz-storage-class", "Cache-Control")
    if random.random() < 0.3:
        headers[random.choice(others)] = random.choice(("", "0", "-1", "\xe9", "nan", "9" * 400, '"'))
    return json.dumps({"headers": headers, "is_whole": is_whole}).encode()


def _header(value: str) -> str:
    return quote(value.encode("utf-8", "replace"), safe=" /:@")[:120]


def run_metadata(case: bytes) -> str:
    """Look for an image by its metadata; return whether it is found."""
    fields = json.loads(case)
    s3 = wire()
    s3.key, s3.headers, s3.body = "a/0.png", fields["headers"], b""
    try:
        found = ObjectStore(s3.client, Destination(bucket=BUCKET, prefix="a")).find(TRACE, "0")
    except UploadFailed as error:
        assert not fields["is_whole"], f"an image that is there is not seen: {error}"
        return "refused"
    assert found or not fields["is_whole"], "an image that is there is taken for lost"
    return "found" if found else "not found"


@cache
def _record() -> dict[str, Any]:
    image = {
        "index": 0, "uri": "s3://images/a/0.png", "bucket": BUCKET, "key": "a/0.png", "etag": "1", "version_id": None,
        "bytes": 9, "sha256": DIGEST, "content_type": "image/png", "width": 1, "height": 1, "task_id": "t",
        "trace_id": TRACE, "revised_prompt": "a lighthouse", "usage": {"total_tokens": 3}, "cost": 0.042,
    }  # fmt: skip
    record = LedgerRecord(
        state="landed",
        key=str(_KEY),
        generation=1,
        item=0,
        fingerprint=_KEY.fingerprint,
        gateway="acedatacloud",
        base_url="https://gateway.example",
        trace_id=TRACE,
        attempt=_ATTEMPT,
        claimed_at=1_790_000_000.0,
        updated_at=1_790_000_000.0,
        task_id="t",
        billed=1,
        usage={"total_tokens": 3},
        currency="USD",
    ).model_dump(mode="json")
    failure = {"code": "api_error", "message": "no"}
    return {**record, "images": [image], "failure": failure, "cost": 0.042, "estimate": 0.05, "cost_before": 0.1}


def ledger_record(random: Random) -> bytes:
    """Make a record that somebody, or another release, has written."""
    states = ("claimed", "submitted", "cancelling", "answered", "landed", "failed")
    record = spoil(random, {**_record(), "state": random.choice(states)})
    body = dumped(random, record)
    return mutate(random, body, random.choice((b"[" * 100_000, b'"', b"\xff", body))) if random.random() < 0.2 else body


def run_ledger(case: bytes) -> str:
    """List, show and reconcile a record as the command line does; return how it reads."""
    s3 = wire()
    s3.key, s3.headers, s3.body = f"ledger/{_KEY}.1.json", {}, case
    ledger = Ledger(s3.client, BUCKET, "ledger")
    stored, unreadable = read(ledger, locations(ledger))
    if unreadable:
        return "unreadable"
    (one,) = stored
    asked, now = ledger_command._usual(one.record.gateway), time.time()
    seen = ImageTask(state="running", task_id="t", trace_id=TRACE)
    found = [advice.outcome_of(one, task, asked, now) for task in (None, seen)]
    rows = [tables.row(one, asked, now), *(tables.reconciled(one.record, outcome, "") for outcome in found)]
    details = [{"property": name, "value": value} for name, value in tables.details(one, asked, now).items()]
    output = _OUTPUTS[len(case) % len(_OUTPUTS)]
    # A terminal that is wide enough, or it would be wrapped in vain.
    with patch.dict("os.environ", COLUMNS="200"), contextlib.redirect_stdout(io.StringIO()) as shown:
        for listed in ([rows[0]], rows[1:], details):
            ledger_command._print(listed, output)
    text = shown.getvalue() + tables.totals(rows[:1])
    text.encode()
    assert not _CONTROLS.search(text), "a record reaches the terminal unescaped"
    return f"read, {one.record.state}"
