"""The engine: settle, watch, land, manifest. Knows gateways, S3 and the ledger, but nothing of Airflow.

Operators drive it step by step, because a deferral may come between watching and landing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from airflow_provider_imagegen import __version__, metrics
from airflow_provider_imagegen.engine.budget import Budget
from airflow_provider_imagegen.engine.delivery import Delivery
from airflow_provider_imagegen.engine.outcome import (
    OnPartial,
    Outcome,
    Refused,
    error_for,
    manifest_of,
    most_severe,
    priced,
    shortfall,
    tally,
    total_cost,
    total_usage,
    with_billed,
)
from airflow_provider_imagegen.engine.plan import Call, check, fingerprint, plan
from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.engine.submit import SubmitResult, Submitter
from airflow_provider_imagegen.engine.task_error import task_error
from airflow_provider_imagegen.exceptions import (
    ImageGenError,
    LedgerError,
    NotAnImage,
    PaidImageLost,
    ResultExpired,
)
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.ledger.models import Attempt, Entry, LedgerKey, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.polling import PollSchedule, Seen, TaskPoller
from airflow_provider_imagegen.schemas import (
    ImageRequest,
    ImageTask,
    Manifest,
    OpenTask,
    Origin,
    Sidecar,
    Submission,
    TaskFailure,
)
from airflow_provider_imagegen.storage.files import MAX_IMAGE_BYTES
from airflow_provider_imagegen.storage.tempfiles import check_disk_space

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """On what terms a job works.

    :param attempt: Who asks.
    :param policy: What to do with what earlier attempts left.
    :param schedule: When to look.
    :param timeout: Seconds from the submit to the deadline.
    :param on_partial: Whether fewer images than asked for are an error.
    :param land_previews: Whether to land streamed previews beside the images.
    :param budget: What may be paid; ``None`` for no limit.
    """

    attempt: Attempt
    policy: Policy = field(default_factory=Policy)
    schedule: PollSchedule = field(default_factory=PollSchedule)
    timeout: float = 1800.0
    on_partial: OnPartial = "fail"
    land_previews: bool = False
    budget: Budget | None = None


@dataclass(frozen=True, kw_only=True)
class SharedResources:
    """What a job shares with others that are at work beside it for the same Airflow task.

    :param poller: Looks up for all of them.
    :param turn: Entered before every paid call.
    :param counted: Ledger keys whose cost another of them accounts for.
    """

    poller: TaskPoller
    turn: AbstractAsyncContextManager[object]
    counted: Collection[LedgerKey] = ()


class ImageJob:
    """One request on its way from a gateway into a bucket.

    :param request: What to generate, and how many.
    :param client: An opened client.
    :param landing: An opened landing.
    :param ledger: The ledger of the destination's bucket.
    :param terms: On what terms.
    :param name_of: File name of an image, without extension, by its position among the images asked for.
    :param company: What it shares with other jobs; ``None`` if it is all that its Airflow task does.
    """

    def __init__(
        self,
        request: ImageRequest,
        client: ImageClient,
        landing: Landing,
        ledger: Ledger,
        terms: JobOptions,
        *,
        name_of: Callable[[int], str] = str,
        company: SharedResources | None = None,
    ) -> None:
        self._request = request
        self._client = client
        self._landing = landing
        self._ledger = ledger
        self._terms = terms
        self._name_of = name_of
        self._delivery = Delivery(request, client, landing, name_of=name_of, with_previews=terms.land_previews)
        self._counted = company.counted if company else ()
        self._submitter = Submitter(
            client,
            ledger,
            terms.attempt,
            terms.policy,
            check_free=self._check_free,
            turn=company.turn if company else None,
            budget=terms.budget,
        )
        self._poller = company.poller if company else TaskPoller(client, terms.schedule)
        self._seen = Seen({})
        self._entries: dict[int, Entry] = {}
        self._refusals: list[ImageGenError] = []
        self.open: list[OpenTask] = []
        """Tasks that this job knows to be at the gateway, finished or not."""

    def check(self) -> None:
        """Refuse what is known to be wrong, before anything is paid.

        :raises InvalidRequest: Naming field, value, and what is allowed.
        """
        check(self._request, self._client.gateway)

    async def submit(self) -> Submission:
        """Settle every call, at most ``max_in_flight`` at once; land what comes back at once without a task.

        :raises TempFileFailed: If there is no disk space for images that nobody would keep; nothing is paid then.
        :raises ImageGenError: What went wrong, if every call was refused.
        """
        if not self._client.gateway.capabilities.tasks:
            check_disk_space(MAX_IMAGE_BYTES)
        started = time.time()
        deadline = started + self._terms.timeout
        calls = plan(self._request, self._client.gateway)
        width = self._client.settings.max_in_flight
        outcomes: list[OpenTask | Outcome] = []
        for start in range(0, len(calls), width):
            await self._wait_for_places(outcomes, deadline, started)
            wave = calls[start : start + width]
            outcomes += await asyncio.gather(*(self._settle(call, deadline) for call in wave))
        closed = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
        errors = [error for outcome in closed for error in outcome.errors]
        cost = total_cost(closed)
        self._refusals = [error.error for error in errors]
        if errors and len(closed) == len(outcomes) and not any(outcome.images for outcome in closed):
            raise with_billed(
                most_severe(self._refusals), 0, [missing for error in errors for missing in error.missing]
            )
        return Submission(
            submitted_at=started,
            deadline=deadline,
            open=tuple(outcome for outcome in outcomes if isinstance(outcome, OpenTask)),
            landed=tuple(image for outcome in closed for image in outcome.images),
            failures=tuple(missing for error in errors for missing in error.missing),
            billed=sum(outcome.billed for outcome in closed),
            usage=total_usage(closed),
            cost=cost.total,
            cost_at_least=cost.known,
            fingerprint=fingerprint(self._request, self._client.gateway),
        )

    async def wait(self, submission: Submission, until: float) -> dict[str, ImageTask]:
        """Look up the open tasks until all are done or the time is over.

        :param submission: What was submitted.
        :param until: Unix seconds.
        :return: The last that was seen of every open task.
        """
        self.open = list(submission.open)
        self._seen = await self._poller.wait(
            submission.task_ids, until=until, submitted_at=submission.last_submitted_at, model=self._request.model
        )
        return self._seen.tasks

    @property
    def last_fault(self) -> ImageGenError | None:
        """Why the last lookup failed; ``None`` if it did not."""
        return self._seen.last_fault

    async def land(self, submission: Submission, tasks: dict[str, ImageTask]) -> Manifest:
        """Bring everything that was generated to S3, and write the manifest beside it.

        :param submission: What was submitted.
        :param tasks: What was last seen of the open tasks.
        :raises ImageGenError: If something is missing: the gravest reason, or
            :class:`~airflow_provider_imagegen.exceptions.PartialDelivery`.
        """
        manifest, error = await self.collect(submission, tasks)
        if manifest.images:
            await self._landing.put_sidecar(self._sidecar(manifest))
        if error:
            raise error
        return manifest

    async def collect(
        self, submission: Submission, tasks: dict[str, ImageTask]
    ) -> tuple[Manifest, ImageGenError | None]:
        """Bring everything that was generated to S3.

        :param submission: What was submitted.
        :param tasks: What was last seen of the open tasks.
        :return: What is there, and what to complain of if that is too little.
        """
        seen = [tasks[open_task.task_id] for open_task in submission.open]
        seconds = max(0.0, time.time() - submission.submitted_at)
        ended = "Finished" if all(task.is_terminal for task in seen) else "Stopped waiting"
        log.info("%s after %.0f s: %s", ended, seconds, tally(submission, seen))
        for task in seen:
            if task.state == "succeeded":
                metrics.took("generation", seconds)
        pairs = zip(submission.open, seen, strict=True)
        outcomes = await asyncio.gather(*(self._land_task(open_task, task) for open_task, task in pairs))
        errors = [error for outcome in outcomes for error in outcome.errors]
        manifest = manifest_of(self._request, self._client.gateway, submission, outcomes, self._manifest_uri)
        reasons = [*self._refusals, *(error.error for error in errors)]
        return manifest, error_for(submission, manifest, reasons, self._terms.on_partial)

    @property
    def _manifest_uri(self) -> str:
        destination = self._landing.destination
        return destination.uri(destination.manifest_key)

    def _sidecar(self, manifest: Manifest) -> Sidecar:
        attempt = self._terms.attempt
        origin = Origin.model_validate(attempt.model_dump(include=set(Origin.model_fields)))
        asked = self._request.described()
        digest = hashlib.sha256(self._request.prompt.encode()).hexdigest()
        return Sidecar(
            **dict(manifest), provider_version=__version__, origin=origin, request=asked, prompt_sha256=digest
        )

    async def _wait_for_places(self, outcomes: Sequence[OpenTask | Outcome], deadline: float, started: float) -> None:
        open_ids = [outcome.task_id for outcome in outcomes if isinstance(outcome, OpenTask)]
        if open_ids:
            await self._poller.wait(open_ids, until=deadline, submitted_at=started, model=self._request.model)

    async def _check_free(self, call: Call) -> None:
        await self._landing.check_free(map(self._name_of, call.indices))

    async def _settle(self, call: Call, deadline: float) -> OpenTask | Outcome:
        started = time.monotonic()
        try:
            settled = await self._submitter.settle(call, deadline)
            if settled.task is not None:
                metrics.took("generation", time.monotonic() - started)
            while (reached := await self._take(settled)) is None:
                settled = await self._submitter.replace(settled, deadline)
            return reached
        except ImageGenError as error:
            log.warning("Image %d: %s", call.index, error)
            metrics.count("failed", call.count)
            return Outcome(errors=(Refused(call.index, call.count, error),))

    async def _take(self, settled: SubmitResult) -> OpenTask | Outcome | None:
        """Take up a call where it stands; ``None`` if its images were paid for and are gone."""
        if settled.entry.record.state == "landed":
            return await self._hand_out(settled)
        if settled.entry.record.state == "answered" and settled.task is None:
            return await self._adopt(settled)
        return await self._open_or_land(settled)

    async def _open_or_land(self, settled: SubmitResult) -> OpenTask | Outcome:
        call, record = settled.call, settled.entry.record
        self._entries[call.index] = settled.entry
        if settled.task is not None:
            # Objects are found again by the trace id in the ledger, whatever id the gateway gave.
            task = settled.task.model_copy(update={"trace_id": record.trace_id})
            outcome = await self._delivery.deliver(task, call.index, call.count)
            return await self._note_landing(settled.key, settled.entry, outcome)
        if record.task_id is None:
            raise RuntimeError(f"the record {record.key} is neither answered nor submitted")
        open_task = OpenTask(
            index=call.index,
            count=call.count,
            task_id=record.task_id,
            trace_id=record.trace_id,
            scope=settled.key.scope,
            fingerprint=settled.key.fingerprint,
            generation=record.generation,
            submitted_at=record.updated_at,
        )
        self.open.append(open_task)
        return open_task

    async def _hand_out(self, settled: SubmitResult) -> Outcome | None:
        """Hand out images that are paid for: where they are, or copied to where they are wanted now."""
        record = settled.entry.record
        names = ((image, self._name_of(image.index)) for image in record.images)
        copies = await asyncio.gather(*(self._landing.reuse(image, name) for image, name in names))
        images = tuple(image for image in copies if image is not None)
        if len(images) < len(record.images):
            return None
        currency = self._currency
        if record.currency != currency:
            images = tuple(image.model_copy(update={"cost": None}) for image in images)
        outcome = Outcome(
            images=images,
            billed=record.billed + record.billed_before,
            usage=record.usage,
            cost=record.cost_in(currency) + record.cost_before_in(currency),
            errors=shortfall(settled.call.index, settled.call.count, len(images)),
        )
        metrics.count("reused", len(images))
        is_on_our_bill = self._is_ours(record) and settled.key not in self._counted
        return outcome if is_on_our_bill else outcome.paid_by_others()

    def _is_ours(self, record: LedgerRecord) -> bool:
        """Return whether this task instance is the one that pays."""
        return record.attempt.instance == self._terms.attempt.instance

    async def _adopt(self, settled: SubmitResult) -> Outcome | None:
        """Take up images that came with a response and were put, by a try that could not note it any more."""
        call, record = settled.call, settled.entry.record
        names = {index: self._name_of(index) for index in call.indices}
        images = await self._landing.find(record.trace_id, names)
        lost = record.billed - len(images)
        if lost > 0 and (not images or self._terms.policy.on_unknown == "resubmit"):
            return None
        cost = record.cost_in(self._currency)
        found = {image.index - call.index: image for image in images}
        images = tuple(priced(found, record.billed, record.usage, cost))
        there = {image.index for image in images}
        missing = [index for index in range(call.index, call.index + record.billed) if index not in there]
        error = PaidImageLost(f"{record.gateway} keeps no copy of it", gateway=record.gateway, trace_id=record.trace_id)
        errors = (*(Refused(index, 1, error) for index in missing), *shortfall(call.index, call.count, record.billed))
        outcome = Outcome(images=images, billed=record.billed, usage=record.usage, cost=cost, errors=errors)
        return await self._note_landing(settled.key, settled.entry, outcome)

    async def _land_task(self, open_task: OpenTask, task: ImageTask) -> Outcome:
        key = LedgerKey(open_task.scope, open_task.index, open_task.fingerprint)
        entry = await self._entry_of(open_task, key)
        if entry is not None and (outcome := await self._landed_before(open_task, key, entry)):
            return outcome
        error = task_error(task, self._client.gateway.name, self.last_fault)
        if error is None:
            outcome = await self._delivery.deliver(task, open_task.index, open_task.count)
            return await self._note_landing(key, entry, outcome)
        log.warning("Image %d: %s", open_task.index, error)
        metrics.count("failed", open_task.count)
        if task.state == "failed" and entry is not None:
            await self._note(key, entry, state="failed", failure=task.failure)
        elif task.state == "lost" and entry is not None:
            await self._note(key, entry, failure=TaskFailure(code=type(error).__name__, message=error.message))
        outcome = Outcome(errors=(Refused(open_task.index, open_task.count, error),))
        return self._with_earlier_bills(outcome, entry.record) if entry else outcome

    async def _landed_before(self, open_task: OpenTask, key: LedgerKey, entry: Entry) -> Outcome | None:
        """Hand out what somebody else has landed since it was submitted; ``None`` if nobody has, or it is gone."""
        if entry.record.state != "landed":
            return None
        call = Call(open_task.index, self._request.model_copy(update={"n": open_task.count}))
        return await self._hand_out(SubmitResult(call, key, entry))

    async def _entry_of(self, open_task: OpenTask, key: LedgerKey) -> Entry | None:
        """Return the task's record; ``None`` if S3 cannot show it, which must not keep the image from landing."""
        if open_task.index in self._entries:
            return self._entries[open_task.index]
        try:
            return await asyncio.to_thread(self._ledger.read, key, open_task.generation)
        except LedgerError as error:
            log.warning("Image %d: %s", open_task.index, error)
            return None

    async def _note_landing(self, key: LedgerKey, entry: Entry | None, outcome: Outcome) -> Outcome:
        """Note in the ledger what landed, unless some of it did not: then a retry lands it again."""
        if entry is None:
            return outcome
        is_ours = self._is_ours(entry.record)
        spoilt = next((error for error in outcome.errors if error.is_about_landing), None)
        if outcome.images and spoilt is None:
            facts = {"images": outcome.images, "billed": outcome.billed, "usage": outcome.usage}
            facts |= {"cost": outcome.cost.total, "currency": self._currency}
            held_by = entry.record.attempt
            attempt = self._terms.attempt if is_ours and self._terms.attempt.epoch >= held_by.epoch else held_by
            await self._note(key, entry, state="landed", attempt=attempt, **facts)
        elif spoilt is not None and isinstance(spoilt.error, ResultExpired | NotAnImage):
            failure = TaskFailure(code=type(spoilt.error).__name__, message=spoilt.error.message)
            await self._note(key, entry, failure=failure)
        return self._with_earlier_bills(outcome, entry.record) if is_ours else outcome.paid_by_others()

    def _with_earlier_bills(self, outcome: Outcome, record: LedgerRecord) -> Outcome:
        return outcome.with_earlier_bills(record.billed_before, record.cost_before_in(self._currency))

    @property
    def _currency(self) -> str:
        return self._client.settings.currency

    async def _note(self, key: LedgerKey, entry: Entry, **changes: object) -> None:
        try:
            await asyncio.to_thread(self._ledger.update, key, entry, updated_at=time.time(), **changes)
        except LedgerError as error:
            log.warning("Could not update the ledger record: %s", error)
