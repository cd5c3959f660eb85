"""One request from submit to manifest: plan, submit, wait, land. Knows gateways, S3 and the ledger, but not Airflow.

The runs call it step by step, because a deferral may come between waiting and landing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence

from airflow_provider_imagegen import __version__, metrics
from airflow_provider_imagegen.engine.delivery import Delivery
from airflow_provider_imagegen.engine.options import JobOptions, SharedResources
from airflow_provider_imagegen.engine.outcome import (
    Outcome,
    Refused,
    error_for,
    manifest_of,
    most_severe,
    place_in_line,
    submission_of,
    tally,
    with_billed,
)
from airflow_provider_imagegen.engine.plan import PlannedCall, plan
from airflow_provider_imagegen.engine.submit import Submitter
from airflow_provider_imagegen.exceptions import NOT_NOW, ImageGenError
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.polling import Seen, TaskPoller
from airflow_provider_imagegen.schemas import (
    ImageRequest,
    ImageTask,
    Manifest,
    OpenTask,
    Origin,
    Sidecar,
    SlotWait,
    Submission,
)
from airflow_provider_imagegen.storage.tempfiles import MAX_IMAGE_BYTES, check_disk_space

log = logging.getLogger(__name__)


class ImageJob:
    """One request on its way from a gateway into a bucket.

    :param name_of: File name of an image, without extension, by its position among the images asked for.
    :param shared: What it shares with other jobs; ``None`` if it is all that its Airflow task does.
    """

    def __init__(
        self,
        request: ImageRequest,
        client: ImageClient,
        landing: Landing,
        ledger: Ledger,
        options: JobOptions,
        *,
        name_of: Callable[[int], str] = str,
        shared: SharedResources | None = None,
    ) -> None:
        self._request = request
        self._client = client
        self._landing = landing
        self._options = options
        self._name_of = name_of
        counted = shared.counted if shared else ()
        self._delivery = Delivery(request, client, landing, ledger, options, name_of=name_of, counted=counted)
        self._submitter = Submitter(
            client,
            ledger,
            options.attempt,
            options.policy,
            check_free=self._check_free,
            turn=shared.turn if shared else None,
            budget=options.budget,
            slot_grace=options.slot_grace,
            stop=options.stop,
        )
        self._poller = shared.poller if shared else TaskPoller(client, options.schedule)
        self._seen = Seen({})
        self._refusals: list[ImageGenError] = []
        self.open: list[OpenTask] = []
        """Tasks that this job knows to be at the gateway, finished or not."""
        self._has_claimed = False

    async def submit(self, started: float | None = None, waited: SlotWait | None = None) -> Submission:
        """Submit every call, at most ``max_in_flight`` at once; land what comes back at once without a task.

        What was submitted before is found in the ledger, and is not submitted again. The result has ``slot`` set if
        part of it waits for a slot first.

        :param started: Unix seconds at which the request began, if that was in an earlier process.
        :param waited: Its place among those that wait for a slot, if it has one.
        """
        if not self._client.gateway.capabilities.tasks:
            # Their images arrive with the response and exist nowhere else: a full disk would lose what was paid for.
            check_disk_space(MAX_IMAGE_BYTES)
        started = started or time.time()
        deadline = started + self._options.timeout
        calls = plan(self._request, self._client.gateway, self._options.attempt, self._options.policy.reuse)
        width = self._client.settings.max_in_flight
        results: list[OpenTask | Outcome] = []
        is_held_up = False
        # In waves, so that one task never has more at the gateway than the connection allows.
        for start in range(0, len(calls), width):
            is_held_up = not await self._has_slots(results, deadline)
            if is_held_up:
                break
            wave = calls[start : start + width]
            results += await asyncio.gather(*(self._submit_call(call, deadline) for call in wave))
        closed = [result for result in results if isinstance(result, Outcome)]
        errors = [error for outcome in closed for error in outcome.errors]
        self._refusals = [error.error for error in errors]
        submission = submission_of(self._request, self._client.gateway, results, started, deadline)
        slot = place_in_line(self._refusals, waited, is_held_up=is_held_up)
        # A gateway that asks to wait beyond the deadline is the error to report, and a retry's to wait for.
        if slot and self._options.slot_grace is not None and max(slot.not_before, time.time()) < deadline:
            return submission.model_copy(update={"slot": slot})
        # Something landed or is open otherwise: then the error waits until that is safe in S3.
        if errors and len(closed) == len(results) and not any(outcome.images for outcome in closed):
            if self._options.slot_grace is not None:
                metrics.count("failed", sum(error.count for error in errors if isinstance(error.error, NOT_NOW)))
            missing = [missing for error in errors for missing in error.missing]
            raise with_billed(most_severe(self._refusals), 0, missing)
        return submission

    async def wait(self, submission: Submission, until: float) -> dict[str, ImageTask]:
        """Look up the open tasks until all are done or the time is over; return the last that was seen of each."""
        self.open = list(submission.open)
        if submission.open:
            self._seen = await self._poller.wait(
                submission.task_ids, until=until, submitted_at=submission.last_submitted_at
            )
        return self._seen.tasks

    @property
    def may_be_billed(self) -> bool:
        """Whether this try or an earlier one may have sent something: nothing is sent before it is claimed."""
        return self._has_claimed or bool(self.open) or self._options.attempt.try_number > 1

    @property
    def last_fault(self) -> ImageGenError | None:
        """Why the last lookup failed; ``None`` if it did not."""
        return self._seen.last_fault

    async def land(self, submission: Submission, tasks: dict[str, ImageTask]) -> Manifest:
        """Bring everything that was generated to S3, write the manifest beside it, and report what is missing."""
        manifest, error = await self.collect(submission, tasks)
        if manifest.images:
            # Before the error is raised: the images that did land are paid for, and their manifest says so.
            await self._landing.put_sidecar(self._sidecar(manifest))
        if error:
            raise error
        return manifest

    async def collect(
        self, submission: Submission, tasks: dict[str, ImageTask]
    ) -> tuple[Manifest, ImageGenError | None]:
        """Bring everything that was generated to S3."""
        seen = [tasks[open_task.task_id] for open_task in submission.open]
        seconds = max(0.0, time.time() - submission.submitted_at)
        ended = "Finished" if all(task.is_terminal for task in seen) else "Stopped waiting"
        log.info("%s after %.0f s: %s", ended, seconds, tally(submission, seen))
        for task in seen:
            if task.state == "succeeded":
                metrics.took("generation", seconds)
        pairs = zip(submission.open, seen, strict=True)
        outcomes = await asyncio.gather(*(self._delivery.land(*pair, self.last_fault) for pair in pairs))
        errors = [error for outcome in outcomes for error in outcome.errors]
        destination = self._landing.destination
        uri = destination.uri(destination.manifest_key)
        manifest = manifest_of(self._request, self._client.gateway, submission, outcomes, uri)
        reasons = [*self._refusals, *(error.error for error in errors)]
        is_stopped, on_partial = self._options.stop.is_asked, self._options.on_partial
        return manifest, error_for(submission, manifest, reasons, on_partial, is_stopped=is_stopped)

    def _sidecar(self, manifest: Manifest) -> Sidecar:
        attempt = self._options.attempt
        origin = Origin.model_validate(attempt.model_dump(include=set(Origin.model_fields)))
        asked = self._request.described()
        digest = hashlib.sha256(self._request.prompt.encode()).hexdigest()
        return Sidecar(
            **dict(manifest), provider_version=__version__, origin=origin, request=asked, prompt_sha256=digest
        )

    async def _has_slots(self, results: Sequence[OpenTask | Outcome], deadline: float) -> bool:
        """Wait until the calls before this wave have left their slots; return whether they have, or nobody waits on."""
        open_ids = [result.task_id for result in results if isinstance(result, OpenTask)]
        if not open_ids:
            return True
        grace = self._options.slot_grace
        until = deadline if grace is None else min(deadline, time.time() + grace)
        # Submitted just now, however long this request has waited for its slot: the gateway may show them late.
        seen = await self._poller.wait(open_ids, until=until, submitted_at=time.time())
        return grace is None or until == deadline or all(task.is_terminal for task in seen.tasks.values())

    async def _check_free(self, call: PlannedCall) -> None:
        await self._landing.check_free(map(self._name_of, call.indices))

    async def _submit_call(self, call: PlannedCall, deadline: float) -> OpenTask | Outcome:
        """Submit a call; land it if it is over already. One call's error must not cost the others."""
        started = time.monotonic()
        self._has_claimed = True
        try:
            submitted = await self._submitter.submit(call, deadline)
            if submitted.task is not None:
                metrics.took("generation", time.monotonic() - started)
            while (open_task := submitted.open_task) is None:
                outcome = await self._delivery.take_up(submitted)
                if outcome is not None:
                    return outcome
                submitted = await self._submitter.submit_again(submitted, deadline)
        except ImageGenError as error:
            # gather() would otherwise cancel the sibling calls, of which some may have been sent.
            if self._options.slot_grace is None or not isinstance(error, NOT_NOW):
                log.warning("Image %d: %s", call.index, error)
                metrics.count("failed", call.count)
            return Outcome(errors=(Refused(call.index, call.count, error),))
        self._delivery.remember(submitted)
        self.open.append(open_task)
        return open_task
