"""A batch of one task instance, between Airflow's calls: begin, and resume after a deferral.

Imported by the batch operator when a task runs, never at DAG parse; the heavy imports live here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

from aiolimiter import AsyncLimiter

from airflow_provider_imagegen.engine.batch.checkpoint import BatchState
from airflow_provider_imagegen.engine.batch.duplicates import Duplicates
from airflow_provider_imagegen.engine.batch.input import entries_of
from airflow_provider_imagegen.engine.batch.job import BatchJob
from airflow_provider_imagegen.engine.batch.limits import HandOver, Slots
from airflow_provider_imagegen.engine.batch.progress import Progress, Report
from airflow_provider_imagegen.engine.batch.result_file import ResultFile
from airflow_provider_imagegen.engine.batch.results import RowResult
from airflow_provider_imagegen.engine.batch.rows import Row, Rows, longest_key, object_name, read_rows
from airflow_provider_imagegen.engine.batch.summary import OnModeration
from airflow_provider_imagegen.engine.dry_run import BatchDryRun
from airflow_provider_imagegen.engine.job import ImageJob
from airflow_provider_imagegen.engine.options import GRACE, SLOT_GRACE, SharedResources
from airflow_provider_imagegen.engine.plan import PlannedCall, check, fingerprint, plan
from airflow_provider_imagegen.engine.run import TaskRun
from airflow_provider_imagegen.exceptions import BudgetExceeded, ImageGenError, InvalidRequest, InvalidRows, TaskStopped
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.ledger.documents import document_uri
from airflow_provider_imagegen.ledger.models import LedgerKey
from airflow_provider_imagegen.polling import TaskPoller
from airflow_provider_imagegen.redaction import redact_secrets
from airflow_provider_imagegen.schemas import ImageRequest, OpenTask, SlotWait, Submission
from airflow_provider_imagegen.schemas.batch import BatchSummary
from airflow_provider_imagegen.storage.client import CONNECTIONS

log = logging.getLogger(__name__)

OnInvalid = Literal["fail", "skip"]

RESUMED_GRACE = 1.0
"""Seconds for which a batch that was deferred with rows left waits for a slot before it defers again."""


class _Opened(NamedTuple):
    """What all rows of a batch share."""

    client: ImageClient
    landing: Landing
    shared: SharedResources


@dataclass(frozen=True, kw_only=True)
class BatchRun(TaskRun):
    """A batch of one task instance.

    :param max_in_flight: Requests to have running at once; ``None`` leaves it to the connection.
    :param requests_per_minute: Paid calls in a minute at most, evenly spread; ``None`` for no such limit.
    """

    requests: object
    defaults: Mapping[str, Any]
    report: Report
    max_in_flight: int | None = None
    requests_per_minute: float | None = None
    on_invalid: OnInvalid = "fail"
    on_moderation: OnModeration = "fail"
    _at_work: list[BatchJob] = field(default_factory=list, init=False, repr=False)

    def open_tasks(self) -> list[OpenTask]:
        """Return what is known to be at the gateway; from any thread."""
        return [task for job in self._at_work for task in job.open_tasks]

    async def begin(self) -> BatchSummary | Submission:
        """Submit, wait and land; hand over what still runs when everything is submitted, or no slot becomes free."""
        async with self._opened() as opened:
            rows = await self._rows()
            self._log_rows(rows)
            with ResultFile() as results:
                for row in rows.invalid:
                    results.add(RowResult.skipped(row))
                return await self._go_on(opened, BatchState(rows.valid, results, time.time()), GRACE)

    async def resume(self, submission: Submission, gave_up: bool) -> BatchSummary | Submission:
        """Go on after a deferral, from the checkpoint."""
        begun = time.monotonic()
        async with self._opened() as opened:
            with ResultFile() as results:
                state = await self._load(results, submission)
                # Its images take long, so it is no use to wait much longer than it took to come back.
                are_quick = state.seconds_each is not None and state.seconds_each < GRACE
                grace = GRACE if are_quick or not state.fresh else max(RESUMED_GRACE, time.monotonic() - begun)
                return await self._go_on(opened, state, grace, waited=submission.slot, gave_up=gave_up)

    async def _load(self, results: ResultFile, submission: Submission) -> BatchState:
        try:
            rows = (await self._rows()).valid
            uri, gateway = self.checkpoint_uri, self.gateway.name
            return await asyncio.to_thread(BatchState.load, self.s3, uri, rows, results, gateway)
        except ImageGenError as error:
            if submission.has_accepted:
                # Rows that have ended may have been refused; open tasks are billed.
                error.billed = "yes" if submission.open else "unknown"
            raise

    async def dry_run(self) -> BatchDryRun:
        """Check all rows, and show what would be sent and what it would cost."""
        with redact_secrets([str(self.defaults.get("callback_url") or "")]):
            rows = await self._rows()
            asked = {row.key: row.request.n for row in rows.valid}

            def names_of(call: PlannedCall) -> Iterator[str]:
                return (object_name(call.row, asked[call.row], index) for index in call.indices)

            calls = await asyncio.to_thread(list, self._calls(rows.valid))
            plan = await self.dry_run_planner.plan(calls, names_of)
            return BatchDryRun.of(plan, len(rows.valid) + len(rows.invalid), len(rows.invalid))

    @property
    def checkpoint_uri(self) -> str:
        """Address of the checkpoint of this try."""
        return document_uri(self.ledger, self.options.attempt, "batch")

    async def _go_on(
        self,
        opened: _Opened,
        state: BatchState,
        grace: float,
        *,
        waited: SlotWait | None = None,
        gave_up: bool = False,
    ) -> BatchSummary | Submission:
        """Go on with the rows that have not ended."""
        await self._reserve_budget(state, is_resuming=gave_up or waited is not None or bool(state.open))
        job = await self._job(opened, state, grace, waited=waited, gave_up=gave_up)
        # For whoever kills the task: it cancels what is at the gateway.
        self._at_work.append(job)
        self.options.stop.when_asked(partial(self._stop, job))
        await job.run()
        state.seconds_each = job.progress.seconds_each or state.seconds_each
        if self._can_defer and self.options.stop.is_asked and state.fresh and not state.open:
            # Nothing is at the gateway: the batch keeps its place, or takes one, and the next worker begins.
            state.refused = state.refused or waited or SlotWait(since=time.time())
        if not (state.open or state.refused):
            return await self._publish(opened, state)
        if gave_up and job.last_fault is not None:
            raise job.last_fault
        await asyncio.to_thread(state.save, self.s3, self.checkpoint_uri)
        return Submission(
            submitted_at=state.started_at,
            deadline=job.deadline,
            open=state.open_tasks,
            # Any of them may have been billed: an error of the next worker must not say that nothing was.
            billed=len(state.results),
            slot=state.refused,
            # One after the other they would each bring up a worker; all together, they would leave slots unused.
            left_open=len(state.open_tasks) // 2 if job.has_more and not state.refused else 0,
        )

    @property
    def _can_defer(self) -> bool:
        return self.deferrable and self.gateway.capabilities.tasks

    async def _job(
        self, opened: _Opened, state: BatchState, grace: float, *, waited: SlotWait | None, gave_up: bool
    ) -> BatchJob:
        deadline = state.started_at + self.options.timeout
        # A triggerer that cannot look up cannot keep the queue either: then the worker waits for slots itself.
        slot_grace = SLOT_GRACE if self._can_defer and not gave_up else None
        return BatchJob(
            state=state,
            make_job=partial(self._image_job, opened, deadline, slot_grace),
            slots=Slots(opened.client),
            duplicates=await asyncio.to_thread(self._duplicates, state),
            progress=Progress(len(state.rows), state.results, self.report),
            hand_over=HandOver(min(grace, self.options.timeout) if self._can_defer else None, looks_once=gave_up),
            deadline=deadline,
            waited=waited,
        )

    def _stop(self, job: BatchJob) -> None:
        """Begin no more rows: the next worker does, or the next try."""
        breaker = job.state.circuit_breaker
        # What is being cancelled is better tried again than waited for.
        if self._can_defer and not self.gateway.capabilities.cancel:
            job.hand_over.end_all()
        elif breaker.blown_by is None:
            breaker.blown_by = TaskStopped("the worker was told to stop")

    async def _publish(self, opened: _Opened, state: BatchState) -> BatchSummary:
        if state.fresh:
            # Only a defect can leave rows without a result; a summary without them would pass for a success.
            raise RuntimeError(f"{len(state.fresh)} row(s) have no result")
        return await state.results.publish(
            opened.landing,
            self.gateway,
            state.started_at,
            on_partial=self.options.on_partial,
            on_moderation=self.on_moderation,
            stopped_by=self._stopped_by(state),
        )

    def _stopped_by(self, state: BatchState) -> ImageGenError | None:
        reason = state.circuit_breaker.blown_by
        # Rows that ended as they would have anyway are no reason to try again; cancelled ones are.
        has_stopped_rows = state.results.tally.stopped or self.gateway.capabilities.cancel
        return None if isinstance(reason, TaskStopped) and not has_stopped_rows else reason

    async def _reserve_budget(self, state: BatchState, *, is_resuming: bool) -> None:
        if self.options.budget is None or not state.fresh:
            return
        # Of all rows: those that have ended have their bills in the ledger.
        calls = await asyncio.to_thread(list, self._calls(state.rows))
        try:
            await self.cost_estimator.reserve(self.options.budget, calls, is_resuming=is_resuming)
        except BudgetExceeded as error:
            if not is_resuming:
                raise
            # The images cost more than was expected. No more is sent, but what is paid for is landed.
            state.circuit_breaker.blown_by = error

    def _calls(self, rows: Iterable[Row]) -> Iterator[PlannedCall]:
        gateway, attempt, reuse = self.gateway, self.options.attempt, self.options.policy.reuse
        for row in rows:
            yield from plan(row.request, gateway, attempt, reuse, row.key)

    def _duplicates(self, state: BatchState) -> Duplicates:
        calls = ((call.row, call.key) for call in self._calls(state.rows))
        return Duplicates(calls, landed=state.results.landed)

    def _image_job(
        self, opened: _Opened, deadline: float, slot_grace: float | None, row: Row, counted: Collection[LedgerKey]
    ) -> ImageJob:
        options = replace(self.options, timeout=max(0.0, deadline - time.time()), slot_grace=slot_grace)
        if options.policy.reuse == "never":
            # Without it, equal rows would have one ledger key, and the second would be given the image of the first.
            options = replace(options, attempt=options.attempt.model_copy(update={"row": row.key}))
        return ImageJob(
            row.request,
            opened.client,
            opened.landing.for_request(row.request.model, fingerprint(row.request, opened.client.gateway)),
            self.ledger,
            options,
            name_of=partial(object_name, row.key, row.request.n),
            shared=replace(opened.shared, counted=counted),
        )

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[_Opened]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CONNECTIONS, "imagegen"))
        settings = self.settings
        if self.max_in_flight is not None:
            settings = replace(settings, max_in_flight=self.max_in_flight)
        rate_limit: AbstractAsyncContextManager[object] = nullcontext()
        if self.requests_per_minute is not None:
            # One call at a time: as a limit of sixty in a minute, it would let sixty through in the first second.
            rate_limit = AsyncLimiter(1, 60 / self.requests_per_minute)
        with redact_secrets([str(self.defaults.get("callback_url") or "")]):
            async with (
                ImageClient(settings) as client,
                Landing(self.s3, self.destination, settings, self.metadata, self.processing) as landing,
            ):
                poller = TaskPoller(client, self.options.schedule)
                yield _Opened(client, landing, SharedResources(poller=poller, turn=rate_limit))

    async def _rows(self) -> Rows:
        rows = await asyncio.to_thread(self._read)
        if rows.invalid and (self.on_invalid == "fail" or not rows.valid):
            raise InvalidRows(rows.invalid)
        return rows

    def _read(self) -> Rows:
        gateway, own_callback = self.gateway, self.defaults.get("callback_url")

        def check_row(request: ImageRequest) -> None:
            if request.callback_url != own_callback:
                # Rows are shown in the UI, and the address may hold a secret.
                raise InvalidRequest("callback_url", "(hidden)", "only as the operator's argument, for all rows")
            check(request, gateway)

        entries = entries_of(self.requests, self.s3)
        return read_rows(entries, self.defaults, check_row, most_key_bytes=longest_key(self.destination.prefix))

    def _log_rows(self, rows: Rows) -> None:
        for row in rows.invalid[:20]:
            log.warning("Left out: %s", row)
        log.info(
            "Validated: %d row(s)%s at %s, to %s",
            len(rows.valid),
            f", {len(rows.invalid)} wrong ones left out," if rows.invalid else "",
            self.settings.host,
            self.destination.uri(self.destination.prefix),
        )
