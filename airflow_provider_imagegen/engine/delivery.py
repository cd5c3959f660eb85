"""Bring the images of one request to S3, each on its own, and note in the ledger what landed.

An image gets here in one of four ways: its task has succeeded (:meth:`Delivery.land`), it came with the response to
the submit, an earlier attempt landed it (it is handed out again), or an earlier attempt landed it and died before it
could note that (it is found by its trace id). In each, what was paid for is counted once, by the task instance that
paid.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from http import HTTPStatus

import tenacity
from tenacity import AsyncRetrying, RetryCallState, stop_after_delay, wait_random_exponential

from airflow_provider_imagegen import metrics
from airflow_provider_imagegen.engine.options import JobOptions
from airflow_provider_imagegen.engine.outcome import (
    Outcome,
    Refused,
    differences,
    priced,
    shortfall,
    task_error,
    without_surplus,
)
from airflow_provider_imagegen.engine.submit import SubmitResult
from airflow_provider_imagegen.exceptions import (
    GatewayError,
    ImageGenError,
    LandingError,
    LedgerError,
    NotAnImage,
    ObjectExists,
    PaidImageLost,
    ResultExpired,
    ResultHostRefused,
)
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.ledger.async_store import AsyncLedger
from airflow_provider_imagegen.ledger.models import Entry, LedgerKey, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.money import Cost
from airflow_provider_imagegen.schemas import ImageOutput, ImageRequest, ImageTask, LandedImage, OpenTask, TaskFailure

log = logging.getLogger(__name__)

RESULT_DELAY = 45.0
"""Seconds for which a finished task's image may be missing at its address: CDNs are slower than task records."""
RESULT_PAUSE = wait_random_exponential(multiplier=0.5, max=8)
RETRY_LANDING = 120.0
"""Seconds for which landing is retried of an image that the gateway keeps no copy of."""


class Delivery:
    """The images of one request on their way to S3.

    :param client: An opened client, to ask for addresses again.
    :param name_of: File name of an image, without extension, by its position among the images asked for.
    :param counted: Ledger keys whose cost another job of the same Airflow task accounts for.
    """

    def __init__(
        self,
        request: ImageRequest,
        client: ImageClient,
        landing: Landing,
        ledger: Ledger,
        options: JobOptions,
        *,
        name_of: Callable[[int], str],
        counted: Collection[LedgerKey] = (),
    ) -> None:
        self._request = request
        self._client = client
        self._landing = landing
        self._records = AsyncLedger(ledger, time.time)
        self._options = options
        self._name_of = name_of
        self._counted = counted
        self._currency = client.settings.currency
        self._entries: dict[int, Entry] = {}

    def remember(self, submitted: SubmitResult) -> None:
        """Keep the ledger entry of a call that is waited for, which saves reading it when it lands."""
        self._entries[submitted.call.index] = submitted.entry

    async def take_up(self, submitted: SubmitResult) -> Outcome | None:
        """Bring a call to its end that has no task; return ``None`` if its images were paid for and are gone."""
        call, entry = submitted.call, submitted.entry
        if entry.record.state == "landed":
            return await self._hand_out(call.key, entry.record, call.index, call.count)
        if submitted.task is None:
            return await self._adopt(submitted)
        # Objects are found again by the trace id in the ledger, whatever id the gateway gave.
        task = submitted.task.model_copy(update={"trace_id": entry.record.trace_id})
        outcome = await self._land_outputs(task, call.index, call.count)
        return await self._note_landing(call.key, entry, outcome)

    async def land(self, open_task: OpenTask, task: ImageTask, last_fault: ImageGenError | None) -> Outcome:
        """Land a task that was waited for, or note why it cannot be landed."""
        key = LedgerKey(open_task.scope, open_task.index, open_task.fingerprint)
        entry = await self._entry_of(open_task, key)
        if entry is not None and entry.record.state == "landed":
            # By a zombie, or a cleared task's new try, while this one waited: landed twice, it would be counted twice.
            outcome = await self._hand_out(key, entry.record, open_task.index, open_task.count)
            if outcome is not None:
                return outcome
        error = task_error(task, self._client.gateway.name, last_fault)
        if error is None:
            outcome = await self._land_outputs(task, open_task.index, open_task.count)
            return await self._note_landing(key, entry, outcome)
        log.warning("Image %d: %s", open_task.index, error)
        metrics.count("failed", open_task.count)
        if task.state == "failed" and entry is not None:
            # Nothing was billed: the next try starts a new generation, where it would else attach to the failed task.
            await self._note(key, entry, state="failed", failure=task.failure)
        elif task.state == "lost" and entry is not None:
            await self._note(key, entry, failure=TaskFailure(code=error.kind, message=error.message))
        outcome = Outcome(errors=(Refused(open_task.index, open_task.count, error),))
        return self._with_earlier_bills(outcome, entry.record) if entry else outcome

    async def _hand_out(self, key: LedgerKey, record: LedgerRecord, index: int, count: int) -> Outcome | None:
        """Hand out images that are paid for: where they are, or copied to where they are wanted now."""
        names = ((image, self._name_of(image.index)) for image in record.images)
        copies = await asyncio.gather(*(self._landing.reuse(image, name) for image, name in names))
        images = tuple(image for image in copies if image is not None)
        # Somebody deleted objects. What is left of a call is not enough: the caller decides whether to pay again.
        if len(images) < len(record.images):
            return None
        currency = self._currency
        if record.currency != currency:
            # Paid in another currency, before the connection's changed: no figure is better than a wrong sum.
            images = tuple(image.model_copy(update={"cost": None}) for image in images)
        outcome = Outcome(
            images=images,
            billed=record.billed + record.billed_before,
            usage=record.usage,
            cost=record.cost_in(currency) + record.cost_before_in(currency),
            errors=shortfall(index, count, len(images)),
        )
        metrics.count("reused", len(images))
        is_on_our_bill = self._is_ours(record) and key not in self._counted
        return outcome if is_on_our_bill else outcome.paid_by_others()

    async def _adopt(self, submitted: SubmitResult) -> Outcome | None:
        """Take up images that came with a response and were put, by a try that could not note it any more."""
        call, record = submitted.call, submitted.entry.record
        names = {index: self._name_of(index) for index in call.indices}
        # Killed between put and note. The trace id in the objects' metadata tells them from another task's.
        images = await self._landing.find(record.trace_id, names)
        lost = record.billed - len(images)
        # With some of them here, only the user may decide to pay for all of them again.
        if lost > 0 and (not images or self._options.policy.on_unknown == "resubmit"):
            return None
        cost = record.cost_in(self._currency)
        found = {image.index - call.index: image for image in images}
        images = tuple(priced(found, record.billed, record.usage, cost))
        there = {image.index for image in images}
        missing = [index for index in range(call.index, call.index + record.billed) if index not in there]
        error = PaidImageLost(f"{record.gateway} keeps no copy of it", gateway=record.gateway, trace_id=record.trace_id)
        errors = (*(Refused(index, 1, error) for index in missing), *shortfall(call.index, call.count, record.billed))
        outcome = Outcome(images=images, billed=record.billed, usage=record.usage, cost=cost, errors=errors)
        return await self._note_landing(call.key, submitted.entry, outcome)

    async def _land_outputs(self, task: ImageTask, first_index: int, count: int) -> Outcome:
        """Land every output on its own, so that one fault does not cost the others."""
        given, task = len(task.outputs), without_surplus(task, count)
        if given > len(task.outputs):
            message = "Image %d: the gateway made more than the %d images asked for; only the first %d are landed"
            log.warning(message, first_index, count, len(task.outputs))
        indices = [
            # What came beyond what was asked for is landed behind everything that was.
            first_index + position if position < count else self._request.n * (position - count + 1) + first_index
            for position in range(len(task.outputs))
        ]
        pairs = zip(indices, task.outputs, strict=True)
        results = await asyncio.gather(*(self._land_output(output, index, task) for index, output in pairs))
        if self._options.land_previews:
            await self._land_previews(task, first_index)
        # After all of them have been put: a gateway without tasks keeps no copy of what these files hold.
        await asyncio.to_thread(_remove_files, task)
        refused = tuple(result for result in results if isinstance(result, Refused))
        landed = {position: image for position, image in enumerate(results) if isinstance(image, LandedImage)}
        made, usage = len(task.outputs), task.usage or {}
        cost = self._client.settings.price_list.cost(self._request, made, usage, task.reported)
        return Outcome(
            images=tuple(priced(landed, made, usage, Cost.of(cost))),
            billed=made,
            usage=usage,
            cost=Cost.of(cost),
            errors=(*refused, *shortfall(first_index, count, made)),
        )

    async def _land_previews(self, task: ImageTask, index: int) -> None:
        try:
            await self._landing.land_previews(task, index, self._name_of(index))
        except ImageGenError as error:
            log.warning("A preview of image %d: %s", index, error)

    async def _land_output(self, output: ImageOutput, index: int, task: ImageTask) -> LandedImage | Refused:
        started = time.monotonic()
        try:
            if self._client.gateway.capabilities.tasks:
                image = await self._land_fresh(output, index, task)
            else:
                image = await self._land_with_retries(output, index, task)
        except ImageGenError as error:
            log.warning("Image %d: %s", index, error)
            metrics.count("failed")
            return Refused(index, 1, error)
        except Exception as error:
            # Whatever hostile bytes trigger here, the other images of the response are paid for too.
            log.exception("Image %d could not be landed", index)
            metrics.count("failed")
            message = f"the image could not be landed: {type(error).__name__}"
            return Refused(index, 1, LandingError(message, task_id=task.task_id, trace_id=task.trace_id))
        metrics.count("landed")
        metrics.took("landing", time.monotonic() - started)
        image = image.model_copy(update={"differs": differences(self._request, image)})
        size = f"{image.bytes} bytes, {image.width}x{image.height} {image.content_type}"
        log.info("Landed image %d: %s, %s", image.index, image.uri, size)
        return image

    async def _land_fresh(self, output: ImageOutput, index: int, task: ImageTask) -> LandedImage:
        """Land an output; while it is not at its address, ask the gateway again: lookups sign addresses again."""
        # By position: a fresh lookup signs new addresses for the same images, and only the order tells them apart.
        outputs, position = task.outputs, task.outputs.index(output)

        async def land() -> LandedImage:
            try:
                return await self._landing.land(outputs[position], index, task, self._name_of(index))
            except ResultExpired as error:
                log.info("Image %d is not at its address, or not yet: %s", index, error.message)
                raise

        async def look_up(_: RetryCallState) -> None:
            nonlocal outputs
            fresh = () if task.task_id is None else await self._look_up_again(task.task_id)
            outputs = fresh if position < len(fresh) else outputs

        # The fresh address is tried at once.
        wait = tenacity.wait_chain(tenacity.wait_none(), RESULT_PAUSE)
        retry = tenacity.retry_if_exception_type(ResultExpired)
        retrying = AsyncRetrying(retry=retry, stop=_is_gone, wait=wait, before_sleep=look_up, reraise=True)
        return await retrying(land)

    async def _land_with_retries(self, output: ImageOutput, index: int, task: ImageTask) -> LandedImage:
        """Land an output of which the gateway keeps no copy: what is given up here is lost."""

        def is_curable(error: BaseException) -> bool:
            return isinstance(error, LandingError) and not _is_hopeless(error, output)

        retrying = AsyncRetrying(
            retry=tenacity.retry_if_exception(is_curable),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            stop=stop_after_delay(RETRY_LANDING),
            reraise=True,
        )
        try:
            return await retrying(self._landing.land, output, index, task, self._name_of(index))
        except LandingError as error:
            error.advice = "The gateway keeps no copy; on_unknown='resubmit' pays for a new image once this is fixed."
            raise

    async def _look_up_again(self, task_id: str) -> tuple[ImageOutput, ...]:
        try:
            return (await self._client.look_up([task_id]))[task_id].outputs
        except GatewayError as error:
            log.warning("The lookup failed: %s", error)
            return ()

    async def _entry_of(self, open_task: OpenTask, key: LedgerKey) -> Entry | None:
        """Return the task's record; ``None`` if S3 cannot show it, which must not keep the image from landing."""
        if open_task.index in self._entries:
            return self._entries[open_task.index]
        try:
            return await self._records.read(key, open_task.generation)
        except LedgerError as error:
            log.warning("Image %d: %s", open_task.index, error)
            return None

    async def _note_landing(self, key: LedgerKey, entry: Entry | None, outcome: Outcome) -> Outcome:
        """Note in the ledger what landed, unless some of it did not: then a retry lands it again."""
        if entry is None:
            return outcome
        is_ours = self._is_ours(entry.record)
        # Paid for, and not arrived.
        spoilt = next((error for error in outcome.errors if error.error.billed == "yes"), None)
        if outcome.images and spoilt is None:
            facts = {"images": outcome.images, "billed": outcome.billed, "usage": outcome.usage}
            facts |= {"cost": outcome.cost.total, "currency": self._currency}
            held_by, attempt = entry.record.attempt, self._options.attempt
            # An older try that lands late must not take the record from the try of a later clear.
            attempt = attempt if is_ours and attempt.epoch >= held_by.epoch else held_by
            await self._note(key, entry, state="landed", attempt=attempt, **facts)
        elif spoilt is not None and isinstance(spoilt.error, ResultExpired | NotAnImage):
            failure = TaskFailure(code=spoilt.error.kind, message=spoilt.error.message)
            await self._note(key, entry, failure=failure)
        return self._with_earlier_bills(outcome, entry.record) if is_ours else outcome.paid_by_others()

    def _is_ours(self, record: LedgerRecord) -> bool:
        return record.attempt.instance == self._options.attempt.instance

    def _with_earlier_bills(self, outcome: Outcome, record: LedgerRecord) -> Outcome:
        cost = outcome.cost + record.cost_before_in(self._currency)
        return replace(outcome, billed=outcome.billed + record.billed_before, cost=cost)

    async def _note(self, key: LedgerKey, entry: Entry, **changes: object) -> None:
        try:
            await self._records.update(key, entry, **changes)
        except LedgerError as error:
            # The images are in S3 and the manifest says so; a retry lands them again for free.
            log.warning("Could not update the ledger record: %s", error)


def _is_gone(state: RetryCallState) -> bool:
    """Return whether an image that is not at its address will not come there, as far as its host or the time tell."""
    # "Not yet" must not be taken for "no longer": what is noted as expired may be paid for again.
    error = state.outcome.exception() if state.outcome else None
    is_gone = isinstance(error, ResultExpired) and error.status == HTTPStatus.GONE
    return state.attempt_number > 1 and (is_gone or (state.seconds_since_start or 0.0) >= RESULT_DELAY)


def _is_hopeless(error: LandingError, output: ImageOutput) -> bool:
    """Return whether another attempt meets the same again: an image that came with the response does not change."""
    is_what_it_is = isinstance(error, NotAnImage) and output.url is None
    return is_what_it_is or isinstance(error, ObjectExists | ResultHostRefused)


def _remove_files(task: ImageTask) -> None:
    """Remove images that came inside responses: a batch of thousands would fill the disk while its client is open."""
    for output in (*task.outputs, *task.previews):
        if output.file is not None:
            output.file.unlink(missing_ok=True)
