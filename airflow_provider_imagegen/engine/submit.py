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
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_provider_imagegen import metrics
from airflow_provider_imagegen.engine.budget import Budget
from airflow_provider_imagegen.engine.claims import Claims
from airflow_provider_imagegen.engine.outcome import without_surplus
from airflow_provider_imagegen.engine.plan import PlannedCall
from airflow_provider_imagegen.engine.recovery import (
    Action,
    Adopt,
    Attach,
    AwaitEnd,
    CallState,
    Find,
    Hand,
    Policy,
    Reclaim,
    Renew,
    Send,
    Stop,
    Wait,
    lease_time,
    next_action,
    time_to_show_up,
    when_gone,
)
from airflow_provider_imagegen.engine.retry import retry_until
from airflow_provider_imagegen.engine.stop import StopRequest
from airflow_provider_imagegen.exceptions import (
    GatewayError,
    ImageGenError,
    LedgerConflict,
    LedgerError,
    LookUpFailed,
    OutcomeUnknown,
    RateLimited,
    TaskTimeout,
)
from airflow_provider_imagegen.failpoints import Failpoint, failpoint
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.ledger.async_store import AsyncLedger
from airflow_provider_imagegen.ledger.models import Attempt, Entry, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import ImageTask, OpenTask

log = logging.getLogger(__name__)

CANCELLING_TIME = 10.0
"""Seconds within which a gateway that was asked to cancel shows it."""
LOOK_AGAIN = 2.0
"""Seconds between lookups for a request that may have been sent."""


@dataclass(frozen=True)
class SubmitResult:
    """A call of which the ledger knows the outcome of its submit.

    :param entry: The record; ``submitted`` (wait for its task), ``answered`` (land ``task``, or look whether it
        landed), or ``landed``.
    :param task: The finished task, where it is known already: land its images.
    """

    call: PlannedCall
    entry: Entry
    task: ImageTask | None = None

    @property
    def open_task(self) -> OpenTask | None:
        """The task to wait for; ``None`` if there is nothing to wait for."""
        record = self.entry.record
        if self.task is not None or record.state in {"landed", "answered"}:
            return None
        if record.task_id is None:
            raise RuntimeError(f"the record {record.key} is neither answered nor submitted")
        return OpenTask(
            index=self.call.index,
            count=self.call.count,
            task_id=record.task_id,
            trace_id=record.trace_id,
            scope=self.call.key.scope,
            fingerprint=self.call.key.fingerprint,
            generation=record.generation,
            submitted_at=record.updated_at,
        )


class Submitter:
    """Submits the calls of one attempt, each at most once.

    :param check_free: Raises if a call's images would replace what may not be replaced; asked before paying.
    :param turn: Entered before every paid call, where these take turns with others of the same Airflow task;
        ``None`` if they are all that it asks for.
    :param budget: What may be paid; ``None`` for no limit.
    :param slot_grace: Seconds for which a call is tried again that the gateway does not take now; ``None`` to go on
        until the deadline.
    :param stop: Whether the worker is told to stop.
    :param clock: Wall clock, in unix seconds; claims come from other processes.
    """

    def __init__(
        self,
        client: ImageClient,
        ledger: Ledger,
        attempt: Attempt,
        policy: Policy,
        *,
        check_free: Callable[[PlannedCall], Awaitable[None]],
        turn: AbstractAsyncContextManager[object] | None = None,
        budget: Budget | None = None,
        slot_grace: float | None = None,
        stop: StopRequest | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._records = AsyncLedger(ledger, clock)
        self._claims = Claims(ledger, client, attempt, policy, warn=turn is None, clock=clock)
        self._attempt = attempt
        self._policy = policy
        self._check_free = check_free
        self._is_alone = turn is None
        self._turn = turn or nullcontext()
        self._budget = budget
        self._slot_grace = slot_grace
        self._stop = stop or StopRequest()
        self._clock = clock
        # Beyond its limit a gateway answers 429, and every refused call waits longer than it would have here.
        self._slots = asyncio.Semaphore(client.settings.max_in_flight)

    async def submit(self, call: PlannedCall, deadline: float) -> SubmitResult:
        """Bring a call to where it is known to be submitted, answered or landed; pay at most once.

        :param deadline: Unix seconds until which a rate-limited call may wait.
        :raises DestinationError: If the ledger cannot be written: nothing was sent.
        :raises OutcomeUnknown: If nobody can tell whether the call was accepted.
        :raises GatewayError: If the gateway refused; the ledger knows that nothing was billed, and whether it may be
            sent again.
        """
        try:
            entry = await self._claims.claim(call, generation=1)
        except ImageGenError as error:
            if self._attempt.try_number > 1:
                # An earlier try may have sent it; only the record, which cannot be read, tells.
                error.billed = "unknown"
            raise
        return await self._run(call, entry, deadline)

    async def submit_again(self, submitted: SubmitResult, deadline: float) -> SubmitResult:
        """Submit a call again whose images landed and are gone, or never landed if the user chose that; pays again."""
        call = submitted.call
        action = when_gone(submitted.entry.record, self._policy)
        if isinstance(action, Stop):
            entry = await self._claims.later(call, submitted.entry, action.error)
        else:
            # The budget was reserved for what was foreseen: one bill for this image, and not two.
            if self._budget is not None:
                self._budget.take(self._client.settings.price_list.estimate(call.request))
            log.warning("Image %d was paid for and is not in S3: generating it again", call.index)
            entry = await self._claims.renew(call, submitted.entry)
        return await self._run(call, entry, deadline)

    async def _run(self, call: PlannedCall, entry: Entry, deadline: float) -> SubmitResult:
        """Decide, act, and decide again from what is known then, until the call is submitted, answered or landed."""
        state: CallState | SubmitResult = CallState(entry)
        while isinstance(state, CallState):
            action = next_action(
                state, self._attempt, self._client.gateway.capabilities, self._policy, self._client.timeout
            )
            try:
                state = await self._perform(action, call, state, deadline)
            except LedgerConflict:
                # Whoever was faster may have sent it: nothing that was decided before their write holds any more.
                log.info("Another attempt of image %d is at work; looking at what it did", call.index)
                state = CallState(await self._records.reread(call.key, state.entry))
        return state

    async def _perform(
        self, action: Action, call: PlannedCall, state: CallState, deadline: float
    ) -> SubmitResult | CallState:
        entry = state.entry
        reached: SubmitResult | CallState
        match action:
            case Send():
                reached = await self._send(call, entry, deadline)
            case Reclaim():
                if self._clock() > deadline:
                    raise _never_accepted(entry.record)
                reached = CallState(await self._claims.reclaim(call, entry))
            case Renew():
                reached = CallState(await self._claims.renew(call, entry))
            case Stop(error):
                if error is state.lost:
                    # Our own request of a moment ago is the newest there is: no later generation to look for.
                    raise error
                reached = CallState(await self._claims.later(call, entry, error))
            case Wait():
                reached = CallState(await self._wait(call, entry, deadline))
            case Find():
                reached = await self._find(call, state, deadline)
            case AwaitEnd(task_id):
                reached = await self._await_end(call, entry, task_id)
            case Attach():
                reached = self._taken_up(call, await self._claims.hold(call, entry))
            case Hand():
                reached = self._taken_up(call, await self._claims.newest(call, entry))
            case Adopt():
                reached = self._taken_up(call, entry)
        return reached

    async def _wait(self, call: PlannedCall, entry: Entry, deadline: float) -> Entry:
        """Give another task instance a moment, then read the record again."""
        if self._clock() > deadline:
            # Not billed by this task; the record stays, so a retry finds whatever the other one has done by then.
            message = "the deadline passed while another task instance was at it"
            raise TaskTimeout(message, gateway=entry.record.gateway, trace_id=entry.record.trace_id)
        await self._sleep(LOOK_AGAIN)
        return await self._records.reread(call.key, entry)

    def _taken_up(self, call: PlannedCall, entry: Entry) -> SubmitResult:
        log.info("Image %d: %s", call.index, _what_is_there(entry.record, self._attempt))
        return SubmitResult(call, entry)

    async def _await_end(self, call: PlannedCall, entry: Entry, task_id: str) -> SubmitResult | CallState:
        """See whether a task was cancelled; if it goes on, whoever wanted that died before asking: attach to it."""
        # Generating again at once would pay for a second image if the gateway had ignored the request to cancel.
        give_up = time.monotonic() + CANCELLING_TIME
        while True:
            task = (await self._client.look_up([task_id]))[task_id]
            if task.state == "failed":
                return CallState(await self._records.update(call.key, entry, state="failed", failure=task.failure))
            if task.state == "succeeded" or time.monotonic() > give_up:
                log.info("Image %d: task %s was not cancelled, attaching", call.index, task_id)
                held = await self._records.update(call.key, entry, state="submitted", attempt=self._attempt)
                return SubmitResult(call, held, task if task.state == "succeeded" else None)
            await asyncio.sleep(min(LOOK_AGAIN, CANCELLING_TIME / 4))

    async def _find(self, call: PlannedCall, state: CallState, deadline: float) -> SubmitResult | CallState:
        """Look for a request that may have been sent, until it would have shown up by now.

        :return: The submitted call if it was sent, with its images if they are made; else the claim, to send it.
        :raises LookUpFailed: If the deadline passes before the gateway can tell.
        :raises TaskTimeout: If the deadline has passed, and the gateway has none of what this process sent.
        """
        entry, trace_id = state.entry, state.entry.record.trace_id
        # The wall clock counts between processes; within this one it may jump.
        age = max(0.0, self._clock() - entry.record.claimed_at)
        visible_by = time.monotonic() + self._time_to_show_up(entry.record) - age
        while True:
            # One lookup that fails or finds nothing proves nothing: requests become visible some time after acceptance.
            task = await self._look_for(trace_id)
            if task is not None and task.state != "unseen" and task.task_id:
                log.info("Found what was sent: task %s (trace %s)", task.task_id, trace_id)
                found = await self._records.update(call.key, entry, state="submitted", task_id=task.task_id)
                held = await self._claims.hold(call, found)
                return SubmitResult(call, held, task if task.state == "succeeded" else None)
            left = visible_by - time.monotonic()
            if task is not None and left <= 0:
                if state.lost is not None and self._clock() > deadline:
                    message = f"the deadline passed and the gateway has none of the requests sent: {state.lost.message}"
                    raise TaskTimeout(message, gateway=entry.record.gateway, trace_id=trace_id, billed="no")
                return CallState(await self._claims.take_over(call, entry))
            if self._clock() > deadline:
                message = "the deadline passed before the gateway could tell whether it has the request"
                raise LookUpFailed(message, gateway=entry.record.gateway, trace_id=trace_id)
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
            # Read as "not there", a failed lookup would have the request sent a second time.
            log.warning("Lookup by trace id failed, trying again: %s", error.message)
            return None

    async def _send(self, call: PlannedCall, entry: Entry, deadline: float) -> SubmitResult | CallState:
        """Send a claimed call; where the response is lost, return that as a state to decide from."""
        await self._check_destination(call, entry)
        # As old as the claim itself: this process may have stood still since it wrote that.
        age = max(0.0, self._clock() - entry.record.claimed_at)
        lease = _Lease(entry, time.monotonic() - age)

        async def send_once() -> ImageTask:
            # The deadline is checked and the claim renewed inside: both may have grown old in the queue for a slot.
            async with AsyncExitStack() as held:
                for limit in self._slots, self._turn:
                    await self._stop.wait(held.enter_async_context(limit))
                left = deadline - self._clock()
                if left <= 0:
                    raise TaskTimeout("the deadline passed before it was sent", billed="no")
                lease.entry = await self._renewed(call, lease)
                self._stop.refuse_if_asked()
                with failpoint(Failpoint.SUBMIT):
                    return await self._client.submit(call.request, lease.entry.record.trace_id, left)

        give_up = deadline if self._slot_grace is None else min(deadline, self._clock() + self._slot_grace)
        try:
            # Repeats only what certainly was not accepted. Transport and proxies get no retries of their own: a reset
            # after the request was read looks to them like one before (urllib3, httpx and the vendors' clients alike).
            task = await retry_until(send_once, give_up, self._clock, partial(self._log_pause, call), self._sleep)
        except OutcomeUnknown as error:
            return await self._note_lost_response(call, lease.entry, error)
        except GatewayError as error:
            await self._records.note_refusal(call.key, lease.entry, error)
            raise
        return await self._note_acceptance(call, lease.entry, task)

    async def _sleep(self, seconds: float) -> None:
        await self._stop.wait(asyncio.sleep(seconds))

    async def _check_destination(self, call: PlannedCall, entry: Entry) -> None:
        try:
            await self._check_free(call)
        except ImageGenError as error:
            await self._records.note_refusal(call.key, entry, error)
            raise

    def _log_pause(self, call: PlannedCall, error: ImageGenError, seconds: float) -> None:
        # Among the rows of a batch it would be one line for each of them, again and again.
        level = logging.WARNING if self._is_alone else logging.DEBUG
        log.log(level, "Image %d was not accepted, trying again in %.0f s: %s", call.index, seconds, error.message)

    async def _renewed(self, call: PlannedCall, lease: _Lease) -> Entry:
        """Renew a claim that has grown old, so that nobody takes it over while it is being sent."""
        if time.monotonic() - lease.since < lease_time(self._client.settings.visibility_grace):
            return lease.entry
        # Set before the write: if that stalls, the next renewal must not count from its end.
        lease.since = time.monotonic()
        return await self._records.update_with_retries(call.key, lease.entry, claimed_at=self._clock())

    async def _note_lost_response(self, call: PlannedCall, entry: Entry, error: OutcomeUnknown) -> CallState:
        if self._client.gateway.capabilities.look_up_by_trace_id:
            log.warning("Image %d: %s; looking by trace id %s", call.index, error.message, error.trace_id)
            try:
                # Accepted perhaps only now, long after the claim: the time to become visible begins here, for
                # everybody who reads the record.
                entry = await self._records.update(call.key, entry, claimed_at=self._clock())
            except LedgerError as fault:
                fault.billed = "unknown"
                raise
        return CallState(entry, lost=error)

    async def _note_acceptance(self, call: PlannedCall, entry: Entry, task: ImageTask) -> SubmitResult:
        # From here on it is billed. Whatever fails now must not lose the task id, or the images that came along.
        metrics.count("submitted")
        changes: dict[str, Any] = {"state": "submitted", "task_id": task.task_id}
        if task.outputs:
            # Only what is landed: what never gets to S3 must not look like images that are lost.
            made, usage = len(without_surplus(task, call.count).outputs), task.usage or {}
            cost = self._client.settings.price_list.cost(call.request, made, usage, task.reported)
            changes |= {"state": "answered", "billed": made, "usage": usage, "cost": cost}
        else:
            log.info("Submitted image %d: task %s (trace %s)", call.index, task.task_id, entry.record.trace_id)
        try:
            entry = await self._records.update(call.key, entry, **changes)
        except LedgerConflict:
            entry = await self._records.reread(call.key, entry)
            # Images in hand are paid for, whoever else is at work.
            if not task.outputs and entry.record.task_id != task.task_id:
                raise
        except LedgerError as error:
            # The gateway has it and we know its id: going on beats stopping, and a retry finds it by trace id.
            log.warning("Image %d was accepted, but: %s", call.index, error)
            entry = Entry(entry.record.model_copy(update=changes), entry.etag)
        return SubmitResult(call, entry, task if task.outputs else None)


@dataclass
class _Lease:
    """A claim, and since when it has stood on this process's own clock."""

    entry: Entry
    since: float


def _never_accepted(record: LedgerRecord) -> TaskTimeout:
    message = f"the deadline passed before it was accepted: {record.failure.message if record.failure else ''}"
    advice = "A retry, or a clear, sends it. A longer timeout waits longer."
    return TaskTimeout(message, gateway=record.gateway, trace_id=record.trace_id, billed="no", advice=advice)


def _what_is_there(record: LedgerRecord, attempt: Attempt) -> str:
    origin = "this task" if record.attempt.instance == attempt.instance else f"{record.attempt.dag_id}"
    if record.state == "landed":
        return f"already paid for and landed by {origin}, reused"
    if record.task_id is None:
        return f"already paid for by {origin}, looking whether it was landed"
    return f"already submitted by {origin} as task {record.task_id}, attaching"
