"""What one task instance has to do for a batch, between Airflow's calls: begin, and resume after a deferral.

Imported by the batch operator when a task runs, never at DAG parse; the heavy imports live here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from aiolimiter import AsyncLimiter

from airflow_provider_imagegen.engine.batch.checkpoint import Checkpoint, Header, digest_of
from airflow_provider_imagegen.engine.batch.input import entries_of
from airflow_provider_imagegen.engine.batch.job import BatchJob, BatchResources, object_name
from airflow_provider_imagegen.engine.batch.keys import longest_key
from airflow_provider_imagegen.engine.batch.outcome import OnModeration, error_for
from airflow_provider_imagegen.engine.batch.progress import Progress, Tell
from airflow_provider_imagegen.engine.batch.result_file import ResultFile
from airflow_provider_imagegen.engine.batch.results import OpenRow, RowResult
from airflow_provider_imagegen.engine.batch.rows import Row, Rows, read_rows
from airflow_provider_imagegen.engine.dry_run import DryRun
from airflow_provider_imagegen.engine.options import GRACE
from airflow_provider_imagegen.engine.plan import PlannedCall, check, plan
from airflow_provider_imagegen.engine.run import TaskRun
from airflow_provider_imagegen.exceptions import InvalidRequest, InvalidRows
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.polling import TaskPoller
from airflow_provider_imagegen.redaction import redact_secrets
from airflow_provider_imagegen.schemas import ImageRequest, OpenTask, Submission
from airflow_provider_imagegen.schemas.batch import BatchSummary

log = logging.getLogger(__name__)

OnInvalid = Literal["fail", "skip"]

MANIFEST = "manifest.jsonl"
THREADS = 10
"""Calls to S3 at once: as many connections as a boto3 client keeps."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a batch is to be made of.

    :param requests: A list of prompts and dicts, or the address of a file with them.
    :param defaults: Parameters of all rows that do not say otherwise.
    :param max_in_flight: Requests to have running at once; ``None`` leaves it to the connection.
    :param requests_per_minute: Paid calls in a minute at most, evenly spread; ``None`` for no such limit.
    :param on_invalid: Whether rows that make no request keep the others from being sent.
    :param on_moderation: Whether rows that the gateway's content policy refuses are an error.
    """

    requests: object
    defaults: Mapping[str, Any]
    max_in_flight: int | None = None
    requests_per_minute: float | None = None
    on_invalid: OnInvalid = "fail"
    on_moderation: OnModeration = "fail"


@dataclass(frozen=True, kw_only=True)
class BatchRun(TaskRun):
    """A batch of one task instance.

    :param order: What it is made of.
    :param tell: Tells users how far it is.
    """

    order: Order
    tell: Tell
    _at_work: list[BatchJob] = field(default_factory=list, init=False, repr=False)

    def open_tasks(self) -> list[OpenTask]:
        """Return what is known to be at the gateway; from any thread."""
        return [task for job in self._at_work for task in job.open_tasks]

    async def begin(self) -> BatchSummary | Submission:
        """Submit, watch and land; hand over what still runs when everything is submitted.

        :return: The summary, or what to wait for.
        :raises InvalidRows: If rows are wrong; nothing is sent then.
        :raises ImageGenError: As the error tree says.
        """
        async with self._means() as means:
            rows = await self._rows(self.gateway)
            self._tell_what_is_asked(rows)
            with ResultFile() as sheet:
                for row in rows.invalid:
                    sheet.add(RowResult.skipped(row))
                run = _Run(work=self, means=means, rows=rows.valid, sheet=sheet)
                return await run.go_on(time.time(), ())

    async def resume(self, submission: Submission, gave_up: bool) -> BatchSummary | Submission:
        """Go on after a deferral, which may have ended early.

        :param submission: What was waited for.
        :param gave_up: Whether the trigger could not go on looking; then neither can this.
        :return: The summary, or what is still to be waited for.
        :raises InvalidRequest: If the batch is made of other rows now than when it began.
        :raises ImageGenError: As the error tree says.
        """
        async with self._means() as means:
            rows = await self._rows(self.gateway)
            with ResultFile() as sheet:
                header, open_rows = await asyncio.to_thread(self.checkpoint.load, sheet)
                if header.rows != await asyncio.to_thread(digest_of, rows.valid):
                    allowed = "the same rows as when the batch began; clear the task to begin with these"
                    raise InvalidRequest("requests", "(changed)", allowed)
                run = _Run(work=self, means=means, rows=rows.valid, sheet=sheet)
                return await run.go_on(header.started_at, open_rows, gave_up=gave_up)

    async def dry_run(self) -> DryRun:
        """Read and check all rows, and tell what would be sent and what it would cost.

        :raises InvalidRows: If rows are wrong and are not to be left out.
        :raises ImageGenError: What else would be refused before anything is paid.
        """
        with redact_secrets([str(self.order.defaults.get("callback_url") or "")]):
            rows = await self._rows(self.gateway)
            asked = {row.key: row.request.n for row in rows.valid}

            def names_of(call: PlannedCall) -> Iterator[str]:
                return (object_name(call.row, asked[call.row], index) for index in call.indices)

            calls = await asyncio.to_thread(self._calls, rows.valid)
            return await self.dry_run_planner.plan(calls, names_of, rows=len(rows.valid), skipped=len(rows.invalid))

    async def reserve_budget(self, rows: Sequence[Row], *, is_resuming: bool = False) -> None:
        """Make sure that the budget covers rows that are to begin; without a budget this does nothing.

        :raises BudgetExceeded: If it does not.
        """
        if self.terms.budget is not None and rows:
            calls = await asyncio.to_thread(self._calls, rows)
            await self.cost_estimator.reserve(self.terms.budget, calls, is_resuming=is_resuming)

    def _calls(self, rows: Sequence[Row]) -> list[PlannedCall]:
        gateway, attempt, reuse = self.gateway, self.terms.attempt, self.terms.policy.reuse
        return [call for row in rows for call in plan(row.request, gateway, attempt, reuse, row.key)]

    @property
    def checkpoint(self) -> Checkpoint:
        """Where this try notes how far it is."""
        return Checkpoint(self.s3, self.ledger, self.terms.attempt)

    def note(self, job: BatchJob) -> None:
        """Remember what is at work, for whoever kills it."""
        self._at_work.append(job)

    @asynccontextmanager
    async def _means(self) -> AsyncIterator[BatchResources]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "imagegen"))
        settings, order = self.settings, self.order
        if order.max_in_flight is not None:
            settings = replace(settings, max_in_flight=order.max_in_flight)
        turn: AbstractAsyncContextManager[object] = nullcontext()
        if order.requests_per_minute is not None:
            turn = AsyncLimiter(1, 60 / order.requests_per_minute)
        with redact_secrets([str(order.defaults.get("callback_url") or "")]):
            async with (
                ImageClient(settings) as client,
                Landing(self.s3, self.destination, settings, self.metadata, self.treatment) as landing,
            ):
                poller = TaskPoller(client, self.terms.schedule)
                yield BatchResources(client=client, landing=landing, ledger=self.ledger, poller=poller, turn=turn)

    async def _rows(self, gateway: Gateway) -> Rows:
        """Read and check all rows.

        :raises InvalidRows: If rows are wrong and are not to be left out, or none is left.
        """
        rows = await asyncio.to_thread(self._read, gateway)
        if rows.invalid and (self.order.on_invalid == "fail" or not rows.valid):
            raise InvalidRows(rows.invalid)
        return rows

    def _read(self, gateway: Gateway) -> Rows:
        own_callback = self.order.defaults.get("callback_url")

        def check_row(request: ImageRequest) -> None:
            if request.callback_url != own_callback:
                # What a row says is shown in the UI, and the address may hold a secret.
                raise InvalidRequest("callback_url", "(hidden)", "only as the operator's argument, for all rows")
            check(request, gateway)

        entries = entries_of(self.order.requests, self.s3)
        return read_rows(entries, self.order.defaults, check_row, most_key_bytes=longest_key(self.destination.prefix))

    def _tell_what_is_asked(self, rows: Rows) -> None:
        for row in rows.invalid[:20]:
            log.warning("Left out: %s", row)
        log.info(
            "Validated: %d row(s)%s at %s, to %s",
            len(rows.valid),
            f", {len(rows.invalid)} wrong ones left out," if rows.invalid else "",
            self.settings.host,
            self.destination.uri(self.destination.prefix),
        )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One stretch of a batch, from where it stands to its end or its deferral."""

    work: BatchRun
    means: BatchResources
    rows: Sequence[Row]
    sheet: ResultFile

    async def go_on(
        self, started_at: float, open_rows: Sequence[OpenRow], gave_up: bool = False
    ) -> BatchSummary | Submission:
        """Go on with what has not ended."""
        work, tally = self.work, self.sheet.tally
        deadline = started_at + work.terms.timeout
        progress = Progress(len(self.rows), work.tell)
        progress.begin_with(tally["landed"], tally["failed"] + tally["unknown"])
        job = BatchJob(self.means, work.terms, self.sheet, progress, deadline)
        work.note(job)
        by_number = {row.number: row for row in self.rows}
        job.settle(by_number[number] for number in self.sheet.landed if number in by_number)
        submissions = {open_row.row: open_row.submission for open_row in open_rows}
        resumed = [(by_number[number], submission) for number, submission in submissions.items()]
        fresh = [row for row in self.rows if row.number not in self.sheet and row.number not in submissions]
        await work.reserve_budget(fresh, is_resuming=bool(open_rows))
        still_open = await job.run(fresh, resumed, grace=self._grace, looks_once=gave_up)
        if not still_open:
            return await self._finish(job, started_at)
        if gave_up and job.last_fault is not None:
            raise job.last_fault
        return await self._hand_over(still_open, started_at, deadline)

    @property
    def _grace(self) -> float | None:
        can_defer = self.work.deferrable and self.means.client.gateway.capabilities.tasks
        return min(GRACE, self.work.terms.timeout) if can_defer else None

    async def _hand_over(self, open_rows: Sequence[OpenRow], started_at: float, deadline: float) -> Submission:
        digest = await asyncio.to_thread(digest_of, self.rows)
        header = Header(rows=digest, started_at=started_at, results=len(self.sheet), open=len(open_rows))
        await asyncio.to_thread(self.work.checkpoint.save, header, self.sheet, open_rows)
        tasks = tuple(task for open_row in open_rows for task in open_row.submission.open)
        return Submission(submitted_at=started_at, deadline=deadline, open=tasks)

    async def _finish(self, job: BatchJob, started_at: float) -> BatchSummary:
        elapsed = round(time.time() - started_at, 3)
        with await asyncio.to_thread(self.sheet.as_file) as lines:
            uri = await self.means.landing.put_lines(MANIFEST, lines)
        summary = self.sheet.tally.summary(
            gateway=self.means.client.gateway.name,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            elapsed=elapsed,
            manifest_uri=uri,
            currency=self.work.settings.currency,
        )
        error = error_for(
            summary,
            self.sheet.tally,
            on_partial=self.work.terms.on_partial,
            on_moderation=self.work.order.on_moderation,
            stopped_by=job.circuit_breaker.blown_by,
        )
        if error is not None:
            raise error
        return summary
