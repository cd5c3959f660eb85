"""The engine: settle, watch, land, manifest. Knows gateways, S3 and the ledger, but nothing of Airflow.

Operators drive it step by step, because a deferral may come between watching and landing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from airflow_provider_imagegen.client import ImageClient
from airflow_provider_imagegen.exceptions import (
    GenerationFailed,
    ImageGenError,
    LedgerError,
    OutcomeUnknown,
    PaidImageLost,
    PartialDelivery,
    PermanentError,
)
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.ledger import Attempt, Entry, Ledger, LedgerKey
from airflow_provider_imagegen.planning import Call, check, fingerprint, plan
from airflow_provider_imagegen.resume import Policy
from airflow_provider_imagegen.schemas import (
    ImageOutput,
    ImageRequest,
    ImageTask,
    LandedImage,
    Manifest,
    MissingImage,
    OpenTask,
    Submission,
)
from airflow_provider_imagegen.submitter import Settled, Submitter
from airflow_provider_imagegen.verdict import verdict
from airflow_provider_imagegen.watcher import PollSchedule, TaskWatcher

log = logging.getLogger(__name__)

OnPartial = Literal["fail", "accept"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On what terms a job works.

    :param attempt: Who asks.
    :param policy: What to do with what earlier attempts left.
    :param schedule: When to look.
    :param timeout: Seconds from the submit to the deadline.
    :param on_partial: Whether fewer images than asked for are an error.
    :param land_previews: Whether to land streamed previews beside the images.
    """

    attempt: Attempt
    policy: Policy = field(default_factory=Policy)
    schedule: PollSchedule = field(default_factory=PollSchedule)
    timeout: float = 1800.0
    on_partial: OnPartial = "fail"
    land_previews: bool = False


class ImageJob:
    """One request on its way from a gateway into a bucket.

    :param request: What to draw, and how many.
    :param client: An opened client.
    :param landing: An opened landing.
    :param ledger: The ledger of the destination's bucket.
    :param terms: On what terms.
    """

    def __init__(
        self, request: ImageRequest, client: ImageClient, landing: Landing, ledger: Ledger, terms: Terms
    ) -> None:
        self._request = request
        self._client = client
        self._landing = landing
        self._ledger = ledger
        self._terms = terms
        self._submitter = Submitter(client, ledger, terms.attempt, terms.policy)
        self._watcher = TaskWatcher(client, terms.schedule)
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

        :raises ImageGenError: What went wrong, if every call was refused.
        """
        started = time.time()
        deadline = started + self._terms.timeout
        calls = plan(self._request, self._client.gateway)
        width = self._client.settings.max_in_flight
        outcomes: list[OpenTask | _Outcome] = []
        for start in range(0, len(calls), width):
            await self._wait_for_places(outcomes, deadline, started)
            wave = calls[start : start + width]
            outcomes += await asyncio.gather(*(self._settle(call, deadline) for call in wave))
        closed = [outcome for outcome in outcomes if isinstance(outcome, _Outcome)]
        errors = [error for outcome in closed for error in outcome.errors]
        self._refusals = [error.error for error in errors]
        if errors and len(closed) == len(outcomes) and not any(outcome.images for outcome in closed):
            raise _gravest(self._refusals)
        return Submission(
            submitted_at=started,
            deadline=deadline,
            open=tuple(outcome for outcome in outcomes if isinstance(outcome, OpenTask)),
            landed=tuple(image for outcome in closed for image in outcome.images),
            failures=tuple(missing for error in errors for missing in error.missing),
            billed=sum(outcome.billed for outcome in closed),
            usage=_total_usage(closed),
        )

    async def wait(self, submission: Submission, until: float) -> dict[str, ImageTask]:
        """Look up the open tasks until all are done or the time is over.

        :param submission: What was submitted.
        :param until: Unix seconds.
        :return: The last that was seen of every open task.
        """
        self.open = list(submission.open)
        return await self._watcher.wait(submission.task_ids, until=until, submitted_at=submission.submitted_at)

    @property
    def last_fault(self) -> ImageGenError | None:
        """Why the last look-up failed; ``None`` if it did not."""
        return self._watcher.last_fault

    async def land(self, submission: Submission, tasks: dict[str, ImageTask]) -> Manifest:
        """Bring everything that was generated to S3, and write the manifest beside it.

        :param submission: What was submitted.
        :param tasks: What was last seen of the open tasks.
        :raises ImageGenError: If something is missing: the gravest reason, or
            :class:`~airflow_provider_imagegen.exceptions.PartialDelivery`.
        """
        seen = [tasks[open_task.task_id] for open_task in submission.open]
        log.info("Finished after %.0f s: %s", time.time() - submission.submitted_at, _tally(submission, seen))
        pairs = zip(submission.open, seen, strict=True)
        outcomes = await asyncio.gather(*(self._land_task(open_task, task) for open_task, task in pairs))
        errors = [error for outcome in outcomes for error in outcome.errors]
        manifest = self._manifest(submission, outcomes)
        if manifest.images:
            await self._landing.put_manifest(manifest)
        self._raise_if_short(submission, manifest, [*self._refusals, *(error.error for error in errors)])
        return manifest

    async def _wait_for_places(self, outcomes: Sequence[OpenTask | _Outcome], deadline: float, started: float) -> None:
        open_ids = [outcome.task_id for outcome in outcomes if isinstance(outcome, OpenTask)]
        if open_ids:
            await self._watcher.wait(open_ids, until=deadline, submitted_at=started)

    async def _settle(self, call: Call, deadline: float) -> OpenTask | _Outcome:
        try:
            settled = await self._submitter.settle(call, deadline)
            if settled.entry.record.state == "landed":
                return await self._hand_out(settled, deadline)
            if settled.entry.record.state == "answered" and settled.task is None:
                return await self._adopt(settled, deadline)
            return await self._open_or_land(settled)
        except ImageGenError as error:
            log.warning("Image %d: %s", call.index, error)
            return _Outcome(errors=(_Refused(call.index, call.count, error),))

    async def _open_or_land(self, settled: Settled) -> OpenTask | _Outcome:
        call, record = settled.call, settled.entry.record
        self._entries[call.index] = settled.entry
        if settled.task is not None:
            outcome = await self._land_outputs(settled.task, call.index, call.count)
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
        )
        self.open.append(open_task)
        return open_task

    async def _hand_out(self, settled: Settled, deadline: float) -> OpenTask | _Outcome:
        """Hand out images that are paid for: where they are, or copied to where they are wanted now."""
        record = settled.entry.record
        copies = await asyncio.gather(*(self._landing.reuse(image) for image in record.images))
        images = tuple(image for image in copies if image is not None)
        if len(images) < len(record.images):
            return await self._open_or_land(await self._submitter.replace(settled, deadline))
        is_ours = record.attempt.instance == self._terms.attempt.instance
        return _Outcome(
            images=images,
            billed=record.billed + record.billed_before if is_ours else 0,
            usage=record.usage if is_ours else {},
            errors=_shortfall(settled.call.index, settled.call.count, len(images)),
        )

    async def _adopt(self, settled: Settled, deadline: float) -> OpenTask | _Outcome:
        """Take up images that came with an answer and were put, by a try that could not note it any more."""
        call, record = settled.call, settled.entry.record
        images = await self._landing.find(record.trace_id, range(call.index, call.index + call.count))
        lost = record.billed - len(images)
        if lost > 0 and (not images or self._terms.policy.on_unknown == "resubmit"):
            return await self._open_or_land(await self._submitter.replace(settled, deadline))
        there = {image.index for image in images}
        missing = [index for index in range(call.index, call.index + record.billed) if index not in there]
        error = PaidImageLost(f"{record.gateway} keeps no copy of it", gateway=record.gateway, trace_id=record.trace_id)
        errors = (*(_Refused(index, 1, error) for index in missing), *_shortfall(call.index, call.count, record.billed))
        outcome = _Outcome(images=images, billed=record.billed, usage=record.usage, errors=errors)
        return await self._note_landing(settled.key, settled.entry, outcome)

    async def _land_task(self, open_task: OpenTask, task: ImageTask) -> _Outcome:
        key = LedgerKey(open_task.scope, open_task.index, open_task.fingerprint)
        entry = await self._entry_of(open_task, key)
        before = entry.record.billed_before if entry else 0
        error = verdict(task, self._client.gateway.name, self._watcher.last_fault)
        if error is None:
            outcome = await self._land_outputs(task, open_task.index, open_task.count)
            return await self._note_landing(key, entry, outcome)
        log.warning("Image %d: %s", open_task.index, error)
        if task.state == "failed" and entry is not None:
            await self._note(key, entry, state="failed", failure=task.failure)
        return _Outcome(billed=before, errors=(_Refused(open_task.index, open_task.count, error),))

    async def _land_outputs(self, task: ImageTask, first_index: int, count: int) -> _Outcome:
        """Land every output on its own, so that one fault does not cost the others."""
        indices = [
            # What came beyond what was asked for is landed behind everything that was.
            first_index + position if position < count else self._request.n * (position - count + 1) + first_index
            for position in range(len(task.outputs))
        ]
        pairs = zip(indices, task.outputs, strict=True)
        results = await asyncio.gather(*(self._land_output(output, index, task) for index, output in pairs))
        if self._terms.land_previews:
            await self._landing.land_previews(task, first_index)
        refused = tuple(result for result in results if isinstance(result, _Refused))
        return _Outcome(
            images=tuple(image for image in results if isinstance(image, LandedImage)),
            billed=len(task.outputs),
            usage=task.usage or {},
            errors=(*refused, *_shortfall(first_index, count, len(task.outputs))),
        )

    async def _land_output(self, output: ImageOutput, index: int, task: ImageTask) -> LandedImage | _Refused:
        try:
            image = await self._landing.land(output, index, task)
        except ImageGenError as error:
            log.warning("Image %d: %s", index, error)
            return _Refused(index, 1, error)
        size = f"{image.bytes} bytes, {image.width}x{image.height} {image.content_type}"
        log.info("Landed image %d: %s, %s", image.index, image.uri, size)
        return image

    async def _entry_of(self, open_task: OpenTask, key: LedgerKey) -> Entry | None:
        """Return the task's record; ``None`` if S3 cannot show it, which must not keep the image from landing."""
        if open_task.index in self._entries:
            return self._entries[open_task.index]
        try:
            return await asyncio.to_thread(self._ledger.read, key, open_task.generation)
        except LedgerError as error:
            log.warning("Image %d: %s", open_task.index, error)
            return None

    async def _note_landing(self, key: LedgerKey, entry: Entry | None, outcome: _Outcome) -> _Outcome:
        """Note in the ledger what landed, unless some of it did not: then a retry lands it again."""
        if entry is None:
            return outcome
        if outcome.images and not any(error.is_about_landing for error in outcome.errors):
            facts = {"images": outcome.images, "billed": outcome.billed, "usage": outcome.usage}
            await self._note(key, entry, state="landed", attempt=self._terms.attempt, **facts)
        return outcome.with_earlier_bills(entry.record.billed_before)

    async def _note(self, key: LedgerKey, entry: Entry, **changes: object) -> None:
        try:
            await asyncio.to_thread(self._ledger.update, key, entry, updated_at=time.time(), **changes)
        except LedgerError as error:
            log.warning("The ledger could not be told: %s", error)

    def _manifest(self, submission: Submission, outcomes: Sequence[_Outcome]) -> Manifest:
        images = [*submission.landed, *(image for outcome in outcomes for image in outcome.images)]
        missing = [missing for outcome in outcomes for error in outcome.errors for missing in error.missing]
        destination = self._landing.destination
        return Manifest(
            gateway=self._client.gateway.name,
            model=self._request.model,
            requested=self._request.n,
            delivered=len(images),
            billed=submission.billed + sum(outcome.billed for outcome in outcomes),
            reused=sum(image.reused for image in images),
            images=tuple(sorted(images, key=lambda image: image.index)),
            failures=tuple(sorted([*submission.failures, *missing], key=lambda entry: entry.index)),
            usage=dict(Counter(submission.usage) + Counter(_total_usage(outcomes))),
            fingerprint=fingerprint(self._request, self._client.gateway),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            elapsed=round(time.time() - submission.submitted_at, 3),
            manifest_uri=destination.uri(destination.key("manifest.json")),
        )

    def _raise_if_short(self, submission: Submission, manifest: Manifest, errors: Sequence[ImageGenError]) -> None:
        if manifest.images and (manifest.delivered >= manifest.requested or self._terms.on_partial == "accept"):
            return
        gravest = _gravest(errors) if errors else None
        unknown = next((missing for missing in submission.failures if missing.billed == "unknown"), None)
        if unknown is not None and not isinstance(gravest, OutcomeUnknown):
            raise OutcomeUnknown(unknown.message, gateway=manifest.gateway, code=unknown.code)
        if gravest is not None and (not manifest.images or isinstance(gravest, PermanentError)):
            raise gravest
        reasons = "; ".join(f"image {missing.index}: {missing.message}" for missing in manifest.failures)
        if manifest.images:
            summary = f"{manifest.delivered} of {manifest.requested} images landed ({reasons})"
            raise PartialDelivery(summary, gateway=manifest.gateway)
        raise GenerationFailed(f"no image landed ({reasons})", gateway=manifest.gateway)


@dataclass(frozen=True)
class _Refused:
    """Images that came to nothing, and why."""

    index: int
    count: int
    error: ImageGenError

    @property
    def missing(self) -> tuple[MissingImage, ...]:
        indices = range(self.index, self.index + self.count)
        return tuple(MissingImage.because_of(self.error, index) for index in indices)

    @property
    def is_about_landing(self) -> bool:
        """Whether the image was paid for and did not arrive."""
        return self.error.billed == "yes"


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What became of one call."""

    images: tuple[LandedImage, ...] = ()
    billed: int = 0
    usage: Mapping[str, object] = field(default_factory=dict)
    errors: tuple[_Refused, ...] = ()

    def with_earlier_bills(self, billed: int) -> _Outcome:
        """Return it with what earlier generations of the same call cost."""
        return _Outcome(images=self.images, billed=self.billed + billed, usage=self.usage, errors=self.errors)


def _shortfall(first_index: int, count: int, made: int) -> tuple[_Refused, ...]:
    if made >= count:
        return ()
    fewer = GenerationFailed("the gateway made fewer images than asked", code="fewer_images")
    return (_Refused(first_index + made, count - made, fewer),)


def _gravest(errors: Iterable[ImageGenError]) -> ImageGenError:
    """Return the error to stop with: an unknown outcome first, then what no retry cures, then the first."""

    def mildness(error: ImageGenError) -> int:
        return 0 if isinstance(error, OutcomeUnknown) else 1 if isinstance(error, PermanentError) else 2

    return min(errors, key=mildness)


def _total_usage(outcomes: Iterable[_Outcome]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update({name: count for name, count in outcome.usage.items() if type(count) is int})
    return dict(total)


def _tally(submission: Submission, tasks: Sequence[ImageTask]) -> str:
    counts = Counter(task.state for task in tasks)
    words = [f"{count} {state}" for state, count in counts.items()]
    if submission.landed:
        words.append(f"{len(submission.landed)} landed already")
    return ", ".join(words) or "nothing open"
