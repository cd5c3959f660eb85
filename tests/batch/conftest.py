"""A harness for batches: tries of one task instance, against the emulator and a real S3 server."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.engine.batch.progress import Counts
from airflow_provider_imagegen.engine.batch.run import BatchRun, OnInvalid
from airflow_provider_imagegen.engine.batch.summary import OnModeration
from airflow_provider_imagegen.engine.options import JobOptions
from airflow_provider_imagegen.engine.outcome import OnPartial
from airflow_provider_imagegen.ledger.models import Attempt
from airflow_provider_imagegen.polling import PollSchedule
from airflow_provider_imagegen.schemas import Submission
from airflow_provider_imagegen.schemas.batch import BatchSummary
from airflow_provider_imagegen.storage.destination import Destination
from tests.conftest import BUCKET
from tests.failures.conftest import Harness, quick, s3, settings_of  # noqa: F401
from tests.integration.conftest import airflow_database, connections  # noqa: F401
from tests.stack.waiting import HANG

IMAGE_BYTES = 1000
DRAWN_SMALL = {"model": "gpt-image-1", "size": "1024x1024"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """Options of one try of a batch.

    :param defaults: parameters of all rows
    """

    dag_id: str = "dag"
    try_number: int = 1
    epoch: int = 0
    timeout: float = HANG
    deferrable: bool = False
    on_partial: OnPartial = "fail"
    on_invalid: OnInvalid = "fail"
    on_moderation: OnModeration = "fail"
    max_in_flight: int | None = None
    requests_per_minute: float | None = None
    replace: bool = True
    defaults: dict[str, Any] = dataclasses.field(default_factory=lambda: dict(DRAWN_SMALL))


@dataclasses.dataclass
class BatchHarness(Harness):
    """One task instance; every :meth:`batch` is one of its tries.

    :param reported: the progress that was reported
    """

    reported: list[Counts] = dataclasses.field(default_factory=list)

    def batch(self, requests: object, **ask: Any) -> BatchRun:
        asked = Ask(**ask)
        attempt = Attempt(
            dag_id=asked.dag_id, task_id="batch", run_id=self.run_id, try_number=asked.try_number, epoch=asked.epoch
        )
        destination = Destination(bucket=BUCKET, prefix=self.prefix)
        options = dataclasses.replace(destination.options, replace=asked.replace)
        return BatchRun(
            requests=requests,
            defaults=asked.defaults,
            max_in_flight=asked.max_in_flight,
            requests_per_minute=asked.requests_per_minute,
            on_invalid=asked.on_invalid,
            on_moderation=asked.on_moderation,
            report=self._report,
            settings=self.settings,
            s3=self.s3,
            destination=dataclasses.replace(destination, options=options),
            ledger=self.ledger,
            options=JobOptions(
                attempt=attempt,
                policy=self.policy,
                schedule=PollSchedule(interval=0.1, slowest=0.2),
                timeout=asked.timeout,
                on_partial=asked.on_partial,
            ),
            deferrable=asked.deferrable,
        )

    def run(self, requests: object, **ask: Any) -> BatchSummary:
        """Run one try to its end."""
        result = asyncio.run(self.batch(requests, **ask).begin())
        assert isinstance(result, BatchSummary)
        return result

    def defer(self, requests: object, **ask: Any) -> Submission:
        """Run one try up to its deferral."""
        result = asyncio.run(self.batch(requests, deferrable=True, **ask).begin())
        assert isinstance(result, Submission)
        return result

    def resume(self, requests: object, submission: Submission, *, gave_up: bool = False, **ask: Any) -> Any:
        """Go on after a deferral."""
        work = self.batch(requests, deferrable=True, **ask)
        return asyncio.run(work.resume(submission, gave_up))

    @property
    def prefix(self) -> str:
        return f"batches/{self.run_id}"

    def lines(self) -> list[dict[str, Any]]:
        """Return what ``manifest.jsonl`` says."""
        body = self.s3.get_object(Bucket=BUCKET, Key=f"{self.prefix}/manifest.jsonl")["Body"].read()
        return [json.loads(line) for line in body.splitlines()]

    def names(self) -> list[str]:
        """Return the names of the images in S3."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return sorted(key.removeprefix(f"{self.prefix}/") for key in keys if not key.endswith("manifest.jsonl"))

    def statuses(self) -> list[str]:
        return [line["status"] for line in self.lines()]

    async def _report(self, counts: Counts) -> None:
        self.reported.append(counts)


def prompts(count: int, words: str = "a lighthouse") -> list[str]:
    return [f"{words}, number {number}" for number in range(count)]


@pytest.fixture
def harness(emulator: RunningEmulator, s3: Any, quick: None) -> BatchHarness:  # noqa: F811
    emulator.change(image_bytes=IMAGE_BYTES)
    return BatchHarness(emulator, s3, settings_of(emulator))


@pytest.fixture
def grace(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let a batch hand over sooner than in real life."""

    def shorten(seconds: float) -> None:
        monkeypatch.setattr("airflow_provider_imagegen.engine.batch.run.GRACE", seconds)
        monkeypatch.setattr("airflow_provider_imagegen.engine.batch.run.RESUMED_GRACE", seconds)

    return shorten


def keys(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["key"] for row in rows]
