"""Bring one call to a known state: claim it in the ledger, find what an earlier attempt did, send it if it must be.

The only module that sends paid requests for a task. A request ends in one of three ways. **Accepted**: billed, and the
ledger must know first. **Refused**, or no byte left: not billed; only this is repeated (``retry``). **Unknown**: bytes
left, and no usable response came (timeout, reset, 502, a killed worker). Repeated, it may be paid for twice; given up,
a paid image is lost. So it is looked up by the trace id that went with it, and sent again only if it does not appear.
The claim comes first: one that was never sent costs a lookup, a request that was never recorded costs the image.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from airflow_provider_imagegen import metrics
from airflow_provider_imagegen.engine.budget import Budget
from airflow_provider_imagegen.engine.plan import Call, fingerprint
from airflow_provider_imagegen.engine.recovery import (
    Adopt,
    Attach,
    AwaitEnd,
    Find,
    Hand,
    Policy,
    Renew,
    Stop,
    Wait,
    is_held_by_older_epoch,
    lease_time,
    next_step,
    time_to_show_up,
    when_gone,
)
from airflow_provider_imagegen.engine.retry import retry_until
from airflow_provider_imagegen.exceptions import (
    GatewayError,
    ImageGenError,
    LedgerConflict,
    LedgerError,
    LookUpFailed,
    OutcomeUnknown,
    RateLimited,
    TaskTimeout,
    UnknownTask,
)
from airflow_provider_imagegen.failpoints import Failpoint, failpoint
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.ledger.async_store import AsyncLedger
from airflow_provider_imagegen.ledger.models import Attempt, Entry, LedgerKey, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.money import NOTHING, Cost
from airflow_provider_imagegen.schemas import ImageTask

log = logging.getLogger(__name__)

CANCELLING_TIME = 10.0
"""Seconds within which a gateway that was asked to cancel shows it."""
LOOK_AGAIN = 2.0
"""Seconds between lookups for a request that may have been sent."""


@dataclass(frozen=True)
class SubmitResult:
    """A call whose fate is known to the ledger.

    :param call: The call.
    :param key: What it is filed under.
    :param entry: The record; ``submitted`` (wait for its task), ``answered`` (land ``task``, or look whether it
        landed), or ``landed``.
    :param task: The finished task, where it is known already: land its images.
    """

    call: Call
    key: LedgerKey
    entry: Entry
    task: ImageTask | None = None


class Submitter:
    """Settles calls of one attempt.

    :param client: An opened client.
    :param ledger: The ledger of the destination's bucket.
    :param attempt: Who asks.
    :param policy: What the user chose.
    :param check_free: Raises if a call's images would replace what may not be replaced; asked before paying.
    :param turn: Entered before every paid call, where these take turns with others of the same Airflow task;
        ``None`` if they are all that it asks for.
    :param budget: What may be paid; ``None`` for no limit.
    :param clock: Wall clock, in unix seconds; claims come from other processes.
    """

    def __init__(
        self,
        client: ImageClient,
        ledger: Ledger,
        attempt: Attempt,
        policy: Policy,
        *,
        check_free: Callable[[Call], Awaitable[None]],
        turn: AbstractAsyncContextManager[object] | None = None,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._records = AsyncLedger(ledger, clock)
        self._attempt = attempt
        self._policy = policy
        self._check_free = check_free
        self._is_alone = turn is None
        self._turn = turn or nullcontext()
        self._budget = budget
        self._clock = clock
        self._places = asyncio.Semaphore(client.settings.max_in_flight)

    async def settle(self, call: Call, deadline: float) -> SubmitResult:
        """Bring a call to where it is known to be submitted, answered or landed; pay at most once.

        :param call: The call.
        :param deadline: Unix seconds until which a rate-limited call may wait.
        :raises DestinationError: If the ledger cannot be written: nothing was sent.
        :raises OutcomeUnknown: If nobody can tell whether the call was accepted.
        :raises GatewayError: If the gateway refused; the ledger knows that nothing was billed.
        """
        key = self._key(call)
        try:
            entry = await self._claim(call, key, generation=1)
        except ImageGenError as error:
            if self._attempt.try_number > 1:
                # What an earlier try sent, only the record tells.
                error.billed = "unknown"
            raise
        return await self._go_on(call, key, entry, deadline)

    async def replace(self, settled: SubmitResult, deadline: float) -> SubmitResult:
        """Settle a call again whose images were paid for and are not in S3; pays again.

        :raises PaidImageLost: If the images never got there, unless the user chose to resubmit.
        :raises BudgetExceeded: If that may cost more than what is left.
        """
        step = when_gone(settled.entry.record, self._policy)
        if isinstance(step, Stop):
            entry = await self._later(settled.key, settled.entry, step.error)
        else:
            if self._budget is not None:
                self._budget.take(self._client.settings.price_list.estimate(settled.call.request))
            log.warning("Image %d was paid for and is not in S3: generating it again", settled.call.index)
            entry = await self._renew(settled.call, settled.key, settled.entry)
        return await self._go_on(settled.call, settled.key, entry, deadline)

    async def _go_on(self, call: Call, key: LedgerKey, entry: Entry, deadline: float) -> SubmitResult:
        while True:
            try:
                settled = await self._one_step(call, key, entry, deadline)
            except LedgerConflict:
                log.info("Another attempt of image %d is at work; looking at what it did", call.index)
                settled = await self._records.reread(key, entry)
            if isinstance(settled, SubmitResult):
                return settled
            entry = settled

    async def _one_step(self, call: Call, key: LedgerKey, entry: Entry, deadline: float) -> SubmitResult | Entry:  # noqa: PLR0911 - one return a step
        """Take one step; return where it ends, or the entry to go on with."""
        if entry.is_new:
            await self._check_destination(call, key, entry)
            return await self._send(call, key, entry, deadline)
        capabilities, timeout = self._client.gateway.capabilities, self._client.timeout
        match next_step(entry, self._attempt, capabilities, self._policy, timeout):
            case Renew():
                return await self._renew(call, key, entry)
            case Stop(error):
                return await self._later(key, entry, error)
            case Wait():
                return await self._wait(key, entry, deadline)
            case Find():
                return await self._find(call, key, entry, deadline) or await self._take_over(key, entry)
            case AwaitEnd(task_id):
                return await self._await_end(call, key, entry, task_id)
            case Attach():
                return self._taken_up(call, key, await self._held(key, entry))
            case Hand():
                return self._taken_up(call, key, await self._newest(key, entry))
            case Adopt():
                return self._taken_up(call, key, entry)

    async def _wait(self, key: LedgerKey, entry: Entry, deadline: float) -> Entry:
        """Give whoever is at it a moment, then read what became of it."""
        if self._clock() > deadline:
            words = "the deadline passed while another task instance was at it"
            raise TaskTimeout(words, gateway=entry.record.gateway, trace_id=entry.record.trace_id)
        await asyncio.sleep(LOOK_AGAIN)
        return await self._records.reread(key, entry)

    async def _later(self, key: LedgerKey, entry: Entry, error: ImageGenError) -> Entry:
        """Return the next generation, if somebody has chosen to pay for one since; else stop."""
        later = await self._records.read(key, entry.record.generation + 1)
        if later is None:
            raise error
        return later

    def _taken_up(self, call: Call, key: LedgerKey, entry: Entry) -> SubmitResult:
        log.info("Image %d: %s", call.index, _what_is_there(entry.record, self._attempt))
        return SubmitResult(call, key, entry)

    async def _held(self, key: LedgerKey, entry: Entry) -> Entry:
        """Note that this try waits now, where an older one could still cancel the task, or land it as its own."""
        record = entry.record
        may_be_cancelled = self._client.gateway.capabilities.cancel and not record.attempt.is_same_try(self._attempt)
        if not may_be_cancelled and not is_held_by_older_epoch(record, self._attempt, self._policy):
            return entry
        return await self._records.update(key, entry, attempt=self._attempt)

    async def _await_end(self, call: Call, key: LedgerKey, entry: Entry, task_id: str) -> SubmitResult | Entry:
        """See whether a task was cancelled; if it goes on, whoever wanted that died before asking: attach to it."""
        give_up = time.monotonic() + CANCELLING_TIME
        while True:
            task = (await self._client.look_up([task_id]))[task_id]
            if task.state == "failed":
                return await self._records.update(key, entry, state="failed", failure=task.failure)
            if task.state == "succeeded" or time.monotonic() > give_up:
                log.info("Image %d: task %s was not cancelled, attaching", call.index, task_id)
                held = await self._records.update(key, entry, state="submitted", attempt=self._attempt)
                return SubmitResult(call, key, held, task if task.state == "succeeded" else None)
            await asyncio.sleep(min(LOOK_AGAIN, CANCELLING_TIME / 4))

    async def _check_destination(self, call: Call, key: LedgerKey, entry: Entry) -> None:
        try:
            await self._check_free(call)
        except ImageGenError as error:
            await self._records.note_refusal(key, entry, error)
            raise

    def _key(self, call: Call) -> LedgerKey:
        signature = fingerprint(call.request, self._client.gateway)
        return LedgerKey.of(self._attempt, self._policy.reuse, call.index, signature)

    async def _claim(
        self, call: Call, key: LedgerKey, generation: int, billed_before: int = 0, cost_before: Cost = NOTHING
    ) -> Entry:
        now = self._clock()
        prices = self._client.settings.price_list
        record = LedgerRecord(
            state="claimed",
            key=str(key),
            generation=generation,
            item=call.index,
            fingerprint=key.fingerprint,
            gateway=self._client.gateway.name,
            base_url=self._client.settings.base_url,
            trace_id=self._ledger.trace_id(key, generation),
            attempt=self._attempt,
            claimed_at=now,
            updated_at=now,
            billed_before=billed_before,
            cost_before=cost_before.total,
            estimate=prices.estimate(call.request),
            currency=prices.currency,
            account=self._client.settings.account,
        )
        entry = await asyncio.to_thread(self._ledger.create, record, key)
        if entry.is_new and generation == 1 and self._attempt.try_number > 1 and self._is_alone:
            await self._warn_of_other_prompts(key)
        return entry

    async def _warn_of_other_prompts(self, key: LedgerKey) -> None:
        try:
            others = await asyncio.to_thread(self._ledger.others, key)
        except LedgerError as error:
            log.info("Cannot tell whether earlier tries asked for something else: %s", error)
            return
        if others:
            log.warning(
                "An earlier try asked for something else (fingerprint %s, now %s): does a template change "
                "between tries? This is a new image, and is paid for.",
                ", ".join(other[:12] for other in others),
                key.fingerprint[:12],
            )

    async def _renew(self, call: Call, key: LedgerKey, entry: Entry) -> Entry:
        record = entry.record
        log.info("Image %d: generation %d is over (%s); next one", call.index, record.generation, record.state)
        is_ours = record.attempt.instance == self._attempt.instance
        if not is_ours:
            return await self._claim(call, key, record.generation + 1)
        currency = self._client.settings.currency
        billed, cost = record.billed + record.billed_before, record.cost_in(currency) + record.cost_before_in(currency)
        return await self._claim(call, key, record.generation + 1, billed, cost)

    async def _newest(self, key: LedgerKey, entry: Entry) -> Entry:
        """Return the newest generation that landed: after a regeneration there is a later one."""
        while self._attempt.epoch and entry.record.state == "landed":
            later = await self._records.read(key, entry.record.generation + 1)
            if later is None or later.record.state != "landed":
                break
            entry = later
        return entry

    async def _find(self, call: Call, key: LedgerKey, entry: Entry, deadline: float) -> SubmitResult | None:
        """Look for a request that may have been sent, until it would have shown up by now.

        :return: The settled call if it was sent, with its images if they are made; ``None`` if it was not.
        :raises LookUpFailed: If the deadline passes before the gateway can tell.
        """
        trace_id = entry.record.trace_id
        # The wall clock counts between processes; within this one it may jump.
        age = max(0.0, self._clock() - entry.record.claimed_at)
        visible_by = time.monotonic() + self._time_to_show_up(entry.record) - age
        while True:
            task = await self._look_for(trace_id)
            if task is not None and task.state != "unseen" and task.task_id:
                log.info("Found what was sent: task %s (trace %s)", task.task_id, trace_id)
                found = await self._records.update(key, entry, state="submitted", task_id=task.task_id)
                held = await self._held(key, found)
                return SubmitResult(call, key, held, task if task.state == "succeeded" else None)
            left = visible_by - time.monotonic()
            if task is not None and left <= 0:
                return None
            if self._clock() > deadline:
                words = "the deadline passed before the gateway could tell whether it has the request"
                raise LookUpFailed(words, gateway=entry.record.gateway, trace_id=trace_id)
            await asyncio.sleep(min(LOOK_AGAIN, max(0.1, left)))

    def _time_to_show_up(self, record: LedgerRecord) -> float:
        """Return within how many seconds of its claim a request shows up, if it was ever sent."""
        grace = self._client.settings.visibility_grace
        return grace if record.attempt == self._attempt else time_to_show_up(grace, self._client.timeout)

    async def _look_for(self, trace_id: str) -> ImageTask | None:
        """Look once; ``None`` if the lookup failed, which tells nothing."""
        try:
            return (await self._client.look_up([trace_id], "trace_id"))[trace_id]
        except (LookUpFailed, RateLimited) as error:
            log.warning("Lookup by trace id failed, trying again: %s", error.message)
            return None

    async def _take_over(self, key: LedgerKey, entry: Entry) -> Entry:
        """Take over a claim whose request the gateway does not have; anything else must not be sent again."""
        record = entry.record
        if record.state != "claimed":
            error = UnknownTask("the gateway has accepted it and does not show it any more")
            error.gateway, error.trace_id = record.gateway, record.trace_id
            raise error
        if record.account not in {"", self._client.settings.account}:
            words = "it was claimed with another token, and what that account was billed cannot be seen with this one"
            raise OutcomeUnknown(words, gateway=record.gateway, trace_id=record.trace_id)
        log.info("Trace %s never reached the gateway; sending it now", entry.record.trace_id)
        taken = await self._records.update(key, entry, attempt=self._attempt, claimed_at=self._clock())
        return replace(taken, is_new=True)

    async def _send(self, call: Call, key: LedgerKey, entry: Entry, deadline: float) -> SubmitResult:
        # As old as the claim itself: this process may have stood still since it wrote that.
        age = max(0.0, self._clock() - entry.record.claimed_at)
        lease = _Lease(entry, time.monotonic() - age)

        async def send_once() -> ImageTask:
            async with self._places, self._turn:
                if self._clock() > deadline:
                    raise TaskTimeout("the deadline passed before it was sent", billed="no")
                lease.entry = await self._renewed(key, lease)
                with failpoint(Failpoint.SUBMIT):
                    return await self._client.submit(call.request, lease.entry.record.trace_id)

        try:
            task = await retry_until(send_once, deadline, self._clock, partial(self._tell_of_pause, call))
        except OutcomeUnknown as error:
            return await self._resolve(call, key, lease.entry, error, deadline)
        except GatewayError as error:
            await self._records.note_refusal(key, lease.entry, error)
            raise
        return await self._note_acceptance(call, key, lease.entry, task)

    def _tell_of_pause(self, call: Call, error: ImageGenError, seconds: float) -> None:
        # Among the rows of a batch it would be one line for each of them, again and again.
        level = logging.WARNING if self._is_alone else logging.DEBUG
        log.log(level, "Image %d was not accepted, trying again in %.0f s: %s", call.index, seconds, error.message)

    async def _renewed(self, key: LedgerKey, lease: _Lease) -> Entry:
        """Renew a claim that has grown old, so that nobody takes it over while it is being sent."""
        if time.monotonic() - lease.since < lease_time(self._client.settings.visibility_grace):
            return lease.entry
        lease.since = time.monotonic()
        return await self._records.update_patiently(key, lease.entry, claimed_at=self._clock())

    async def _resolve(
        self, call: Call, key: LedgerKey, entry: Entry, error: OutcomeUnknown, deadline: float
    ) -> SubmitResult:
        """Find out by trace id what became of a call whose response was lost."""
        if not self._client.gateway.capabilities.look_up_by_trace_id:
            raise error
        log.warning("Image %d: %s; looking by trace id %s", call.index, error.message, error.trace_id)
        try:
            # Accepted perhaps only now, long after the claim: for everybody, the time to become visible begins here.
            entry = await self._records.update(key, entry, claimed_at=self._clock())
        except LedgerError as fault:
            fault.billed = "unknown"
            raise
        found = await self._find(call, key, entry, deadline)
        if found is not None:
            return found
        if self._clock() > deadline:
            words = f"the deadline passed and the gateway has none of the requests sent: {error.message}"
            raise TaskTimeout(words, gateway=entry.record.gateway, trace_id=entry.record.trace_id, billed="no")
        return await self._send(call, key, await self._take_over(key, entry), deadline)

    async def _note_acceptance(self, call: Call, key: LedgerKey, entry: Entry, task: ImageTask) -> SubmitResult:
        metrics.count("submitted")
        changes: dict[str, Any] = {"state": "submitted", "task_id": task.task_id}
        if task.outputs:
            made, usage = len(task.outputs), task.usage or {}
            cost = self._client.settings.price_list.cost(call.request, made, usage, task.reported)
            changes |= {"state": "answered", "billed": made, "usage": usage, "cost": cost}
        else:
            log.info("Submitted image %d: task %s (trace %s)", call.index, task.task_id, entry.record.trace_id)
        try:
            entry = await self._records.update(key, entry, **changes)
        except LedgerConflict:
            entry = await self._records.reread(key, entry)
            # Images in hand are paid for, whoever else is at work.
            if not task.outputs and entry.record.task_id != task.task_id:
                raise
        except LedgerError as error:
            # The gateway has it and we know its id: going on beats stopping, and a retry finds it by trace id.
            log.warning("Image %d was accepted, but: %s", call.index, error)
            entry = Entry(entry.record.model_copy(update=changes), entry.etag)
        return SubmitResult(call, key, entry, task if task.outputs else None)


@dataclass
class _Lease:
    """A claim, and since when it has stood on this process's own clock."""

    entry: Entry
    since: float


def _what_is_there(record: LedgerRecord, attempt: Attempt) -> str:
    origin = "this task" if record.attempt.instance == attempt.instance else f"{record.attempt.dag_id}"
    if record.state == "landed":
        return f"already paid for and landed by {origin}, reused"
    if record.task_id is None:
        return f"already paid for by {origin}, looking whether it was landed"
    return f"already submitted by {origin} as task {record.task_id}, attaching"
