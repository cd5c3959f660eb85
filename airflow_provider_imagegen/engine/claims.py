"""The ledger entries of an attempt's calls: claim them, renew them, hold what others left, take over what was not sent.

Nothing here sends a request; the submitter decides with :mod:`~airflow_provider_imagegen.engine.recovery` which of
these steps comes next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from airflow_provider_imagegen.engine.plan import PlannedCall
from airflow_provider_imagegen.engine.recovery import Policy, is_held_by_older_epoch
from airflow_provider_imagegen.exceptions import ImageGenError, LedgerError, OutcomeUnknown, UnknownTask
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.ledger.async_store import AsyncLedger
from airflow_provider_imagegen.ledger.models import SHARED_SCOPE, Attempt, Entry, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.money import NOTHING, Cost

log = logging.getLogger(__name__)

_ASKED_ELSEWHERE = (
    "The same image was requested at another base URL before; "
    'with the connection\'s extra "account", base URLs share paid images.'
)
_ASKED_OTHERWISE = (
    "An earlier try asked for something else: does a template change between tries, or the connection's host?"
)


@dataclass(frozen=True)
class Claims:
    """The entries of one attempt's calls; may warn of earlier tries that asked for something else."""

    ledger: Ledger
    client: ImageClient
    attempt: Attempt
    policy: Policy
    warn: bool
    clock: Callable[[], float]

    @property
    def _records(self) -> AsyncLedger:
        return AsyncLedger(self.ledger, self.clock)

    async def claim(
        self, call: PlannedCall, generation: int, billed_before: int = 0, cost_before: Cost = NOTHING
    ) -> Entry:
        """Claim a generation of a call, with what earlier ones cost, or return the entry of whoever has claimed it."""
        # The claim comes before the request: after a kill, a claim that was never sent costs one lookup, whereas a
        # request that was never recorded would cost the image.
        now = self.clock()
        prices = self.client.settings.price_list
        record = LedgerRecord(
            state="claimed",
            key=str(call.key),
            generation=generation,
            item=call.index,
            fingerprint=call.key.fingerprint,
            gateway=self.client.gateway.name,
            base_url=self.client.settings.base_url,
            trace_id=self.ledger.trace_id(call.key, generation),
            attempt=self.attempt,
            claimed_at=now,
            updated_at=now,
            billed_before=billed_before,
            cost_before=cost_before.total,
            estimate=prices.estimate(call.request),
            currency=prices.currency,
            account=self.client.settings.account_digest,
        )
        # A conditional put: of two attempts at the same moment one creates it, and the other gets what the first wrote.
        entry = await asyncio.to_thread(self.ledger.create, record, call.key)
        if entry.is_new and generation == 1 and self.warn:
            await self._warn_of_others(call)
        return entry

    async def _warn_of_others(self, call: PlannedCall) -> None:
        """Warn of what nobody would notice otherwise: a template or an address changed, and all is paid for again."""
        is_shared = call.key.scope == SHARED_SCOPE
        if not is_shared and self.attempt.try_number == 1:
            return
        try:
            others = await asyncio.to_thread(self.ledger.others, call.key)
        except LedgerError as error:
            log.info("Cannot tell whether another request for this image was sent before: %s", error)
            return
        if others:
            log.warning(
                "%s This is a new image, and is paid for (fingerprint %s, before: %s).",
                _ASKED_ELSEWHERE if is_shared else _ASKED_OTHERWISE,
                call.key.fingerprint,
                ", ".join(others[:3]),
            )

    async def renew(self, call: PlannedCall, entry: Entry) -> Entry:
        """Claim the generation after one that is over."""
        record = entry.record
        log.info("Image %d: generation %d is over (%s); next one", call.index, record.generation, record.state)
        if record.attempt.instance != self.attempt.instance:
            # What another task instance has paid stays on its bill.
            return await self.claim(call, record.generation + 1)
        currency = self.client.settings.currency
        billed, cost = record.billed + record.billed_before, record.cost_in(currency) + record.cost_before_in(currency)
        return await self.claim(call, record.generation + 1, billed, cost)

    async def newest(self, call: PlannedCall, entry: Entry) -> Entry:
        """Return the newest generation that landed: after a regeneration there is a later one."""
        # A cleared task that regenerated has landed a later generation: handing out the first would undo the clear.
        while self.attempt.epoch and entry.record.state == "landed":
            later = await self._records.read(call.key, entry.record.generation + 1)
            if later is None or later.record.state != "landed":
                break
            entry = later
        return entry

    async def hold(self, call: PlannedCall, entry: Entry) -> Entry:
        """Note that this try waits now, where an older one could still cancel the task, or land it as its own."""
        record = entry.record
        may_be_cancelled = self.client.gateway.capabilities.cancel and not record.attempt.is_same_try(self.attempt)
        if not may_be_cancelled and not is_held_by_older_epoch(record, self.attempt, self.policy):
            return entry
        return await self._records.update(call.key, entry, attempt=self.attempt)

    async def reclaim(self, call: PlannedCall, entry: Entry) -> Entry:
        """Claim a generation again that was refused for now; of two who try, only one may send."""
        # With the account of now: what was not sent belongs to none.
        changes = {"account": self.client.settings.account_digest, "base_url": self.client.settings.base_url}
        claim = {"state": "claimed", "attempt": self.attempt, "claimed_at": self.clock(), "failure": None}
        return replace(await self._records.update(call.key, entry, **claim, **changes), is_new=True)

    async def take_over(self, call: PlannedCall, entry: Entry) -> Entry:
        """Take over a claim whose request the gateway does not have; anything else must not be sent again."""
        record = entry.record
        if record.state != "claimed":
            error = UnknownTask("the gateway has accepted it and does not show it any more")
            error.gateway, error.trace_id = record.gateway, record.trace_id
            raise error
        if record.account not in {"", self.client.settings.account_digest}:
            # Gateways show an account only its own tasks: not found with this token says nothing about the other.
            message = "it was claimed with another token, and what that account was billed cannot be seen with this one"
            raise OutcomeUnknown(message, gateway=record.gateway, trace_id=record.trace_id)
        log.info("Trace %s never reached the gateway; sending it now", record.trace_id)
        # Also conditional, so that of two attempts that both found nothing only one sends.
        taken = await self._records.update(call.key, entry, attempt=self.attempt, claimed_at=self.clock())
        return replace(taken, is_new=True)

    async def later(self, call: PlannedCall, entry: Entry, error: ImageGenError) -> Entry:
        """Return the next generation, if somebody has chosen to pay for one since; else stop."""
        if entry.is_new:
            # Our own request of a moment ago is the newest there is, and a failing read must not hide its error.
            raise error
        later = await self._records.read(call.key, entry.record.generation + 1)
        if later is None:
            raise error
        return later
