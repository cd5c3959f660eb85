"""What one task instance has to do, between Airflow's calls: begin, and resume after a deferral.

Imported by the operators when a task runs, never at DAG parse; the heavy imports live here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_imagegen.engine.cancel import cancel_all
from airflow_provider_imagegen.engine.dry_run import BatchDryRun, DryRun, DryRunPlanner
from airflow_provider_imagegen.engine.estimate import CostEstimator
from airflow_provider_imagegen.engine.job import ImageJob
from airflow_provider_imagegen.engine.options import GRACE, JobOptions
from airflow_provider_imagegen.engine.plan import PlannedCall, check, fingerprint, plan
from airflow_provider_imagegen.exceptions import InvalidRequest, TaskStopped
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing import ImageProcessing, Landing
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.redaction import redact_secrets
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask, Manifest, OpenTask, Submission
from airflow_provider_imagegen.storage.destination import Destination

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from airflow_provider_imagegen.schemas.batch import BatchSummary

    Result = Manifest | BatchSummary

log = logging.getLogger(__name__)

CANCEL_TIMEOUT = 15.0
"""Seconds a killed task takes at most to cancel what it submitted."""


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """What one task instance works with, whatever it has to do."""

    settings: GatewaySettings
    s3: S3Client
    destination: Destination
    ledger: Ledger
    options: JobOptions
    metadata: Mapping[str, str] = field(default_factory=dict)
    processing: ImageProcessing = field(default_factory=ImageProcessing)
    deferrable: bool = True

    @classmethod
    def based_on(cls, run: TaskRun, **own: Any) -> Self:
        """Return a run of this class that works with what another works with."""
        return cls(**{known.name: getattr(run, known.name) for known in fields(TaskRun)}, **own)

    @property
    def gateway(self) -> Gateway:
        """The gateway that the connection leads to."""
        return gateway_for(self.settings)

    async def begin(self) -> Result | Submission:
        """Do it, or hand over what to wait for."""
        raise NotImplementedError

    async def resume(self, submission: Submission, gave_up: bool) -> Result | Submission:
        """Go on after a deferral, which may have ended early; if the trigger gave up looking, so does this."""
        raise NotImplementedError

    async def dry_run(self) -> DryRun | BatchDryRun:
        """Check everything and tell what would be sent and what it would cost; send and claim nothing."""
        raise InvalidRequest("validate_only", True, "False: this pays for nothing")

    @property
    def cost_estimator(self) -> CostEstimator:
        """Estimates the cost of calls."""
        return CostEstimator(self.gateway, self.ledger, self.options.attempt, self.options.policy)

    @property
    def dry_run_planner(self) -> DryRunPlanner:
        """Plans calls without sending them."""
        landing = Landing(self.s3, self.destination, self.settings, self.metadata, self.processing)
        return DryRunPlanner(self.gateway, self.ledger, self.options, landing)

    def open_tasks(self) -> list[OpenTask]:
        """Return what is known to be at the gateway; from any thread."""
        raise NotImplementedError

    def s3_location(self, result: Result | None) -> tuple[str, str, str] | None:
        """Return S3 endpoint, bucket and key prefix of the images."""
        return self.s3.meta.endpoint_url, self.destination.bucket, self.destination.prefix

    def gateway_page(self, result: Result | None) -> str | None:
        """Return the page on which the gateway shows the first task, where it has such pages."""
        landed = [image.task_id for image in result.images] if isinstance(result, Manifest) else []
        known = [*(task.task_id for task in self.open_tasks()), *filter(None, landed)]
        return self.gateway.task_page(known[0]) if known else None

    def cancel(self) -> None:
        """Send nothing more, and cancel what was submitted, where the gateway can; from any thread, at any time.

        On a thread and loop of its own: Airflow calls this from a signal handler, in the middle of everything.
        """
        self.options.stop.ask()
        if not self.open_tasks():
            return
        # asyncio.run() in a signal handler would fail: the interrupted frame's loop is still running in this thread.
        thread = threading.Thread(target=lambda: asyncio.run(self._cancel()), name="imagegen-cancel")
        thread.start()
        # Airflow kills the process after `killed_task_cleanup_time`; a retry attaches to what is not cancelled then.
        thread.join(CANCEL_TIMEOUT)

    async def _cancel(self) -> None:
        async with ImageClient(self.settings) as client:
            await cancel_all(self.open_tasks(), client, self.ledger, self.options.attempt)


@dataclass(frozen=True, kw_only=True)
class GenerateRun(TaskRun):
    """One request of one task instance, which ends when everything is submitted if it does not wait."""

    request: ImageRequest
    waits: bool = True
    _at_work: list[ImageJob] = field(default_factory=list, init=False, repr=False)

    async def begin(self) -> Manifest | Submission:
        """Submit and wait: for a moment if waiting may be handed on, else to the end."""
        return await self._submit_and_wait(self.options)

    async def _submit_and_wait(self, options: JobOptions, before: Submission | None = None) -> Manifest | Submission:
        """Submit and wait, from the beginning: what an earlier process of this try submitted stands in the ledger.

        :param before: What that process handed over, to wait for a slot.
        """
        async with self._job(options) as job:
            check(self.request, self.gateway)
            self._log_request()
            await self.cost_estimator.reserve(self.options.budget, self._calls(), is_resuming=before is not None)
            # Everything that can refuse the request has had its say: from here on money is spent.
            submission = await (job.submit(before.submitted_at, before.slot) if before else job.submit())
            if not self.waits:
                _refuse_if_cut_short(submission)
            if submission.slot or not self.waits:
                return submission.without_prompts()
            if not submission.open:
                # A gateway that answers at once, or images that were there already: nothing to wait for.
                return await job.land(submission, {})
            grace = min(GRACE, self.options.timeout) if self.deferrable else self.options.timeout
            # Counted from the beginning: a task that has waited for its slot has no grace left to hold a worker for.
            tasks = await job.wait(submission, submission.submitted_at + grace)
            if self.deferrable and _still_running(tasks):
                return submission.without_prompts()
            return await job.land(submission, tasks)

    async def resume(self, submission: Submission, gave_up: bool) -> Manifest | Submission:
        """Go on after a deferral, which may have ended early: look up afresh, then land."""
        if submission.slot and not (submission.has_accepted and self._asks_for_something_else(submission)):
            # A triggerer that cannot look up cannot keep the queue either: then the worker waits for the slot itself.
            options = replace(self.options, slot_grace=None) if gave_up else self.options
            return await self._submit_and_wait(options, submission)
        submission = submission.model_copy(update={"slot": None})
        async with self._job(self.options, submission.fingerprint) as job:
            now = time.time()
            # Never by what the trigger saw: the task may have finished, or failed, since its event was written.
            tasks = await job.wait(submission, now)
            if _still_running(tasks) and now < submission.deadline:
                if gave_up and job.last_fault is not None:
                    raise job.last_fault
                return submission
            return await job.land(submission, tasks)

    def _asks_for_something_else(self, submission: Submission) -> bool:
        """Return whether a template has changed the request since: what was submitted is landed, and no more sent."""
        return fingerprint(self.request, self.gateway) != submission.fingerprint

    async def dry_run(self) -> DryRun:
        """Check the request and tell what would be sent and what it would cost."""
        with redact_secrets([self.request.callback_url or ""]):
            check(self.request, self.gateway)
            plan = await self.dry_run_planner.plan(self._calls(), lambda call: map(str, call.indices))
            return DryRun.of(plan, self.request, fingerprint(self.request, self.gateway))

    def _calls(self) -> tuple[PlannedCall, ...]:
        return plan(self.request, self.gateway, self.options.attempt, self.options.policy.reuse)

    def open_tasks(self) -> list[OpenTask]:
        """Return what is known to be at the gateway; from any thread."""
        return [task for job in self._at_work for task in job.open]

    @asynccontextmanager
    async def _job(self, options: JobOptions, known_fingerprint: str = "") -> AsyncIterator[ImageJob]:
        """Open a job; after a deferral, what is left of the request may no longer tell its fingerprint."""
        with redact_secrets([self.request.callback_url or ""]):
            async with ImageClient(self.settings) as client:
                known_fingerprint = known_fingerprint or fingerprint(self.request, client.gateway)
                metadata = {**self.metadata, "fingerprint": known_fingerprint}
                async with Landing(self.s3, self.destination, self.settings, metadata, self.processing) as landing:
                    job = ImageJob(self.request, client, landing, self.ledger, options)
                    self._at_work.append(job)
                    yield job

    def _log_request(self) -> None:
        log.info(
            "Validated: %d image(s) by %s at %s, to %s; prompt: %s",
            self.request.n,
            self.request.model or "the gateway's usual model",
            self.settings.host,
            self.destination.uri(self.destination.prefix),
            self.request.shown_prompt(),
        )
        if self.deferrable and not self.gateway.capabilities.tasks:
            log.info(
                "The response of %s contains the image, so this task occupies its worker slot until then. For many "
                "requests use GenerateImageBatchOperator, which occupies one worker slot in all.",
                self.gateway.name,
            )


def _refuse_if_cut_short(submission: Submission) -> None:
    """Raise if the worker was told to stop before all was sent: whoever lands it later would wait for it in vain."""
    if any(missing.kind == TaskStopped.kind for missing in submission.failures):
        raise TaskStopped("the worker was told to stop before all of it was sent", billed="yes")


def _still_running(tasks: Mapping[str, ImageTask]) -> bool:
    return any(not task.is_terminal for task in tasks.values())
