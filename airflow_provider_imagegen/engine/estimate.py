"""Cost estimates of a task instance, with what the ledger says was paid before. Reads the ledger, and never writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from airflow_provider_imagegen.engine.budget import Budget, CostEstimate, Filed, PastGeneration, estimate_cost
from airflow_provider_imagegen.engine.plan import PlannedCall
from airflow_provider_imagegen.engine.recovery import CallState, Policy, next_action
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.ledger.models import Attempt, Entry, LedgerKey, LedgerRecord
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.money import NOTHING, Cost
from airflow_provider_imagegen.storage.client import CONNECTIONS


@dataclass(frozen=True)
class CostEstimator:
    """Estimates the cost of a task instance's calls."""

    gateway: Gateway
    ledger: Ledger
    attempt: Attempt
    policy: Policy

    async def reserve(self, budget: Budget | None, calls: Sequence[PlannedCall], *, is_resuming: bool = False) -> None:
        """Make sure that a budget covers calls, before anything is paid; without a budget this does nothing."""
        if budget is None:
            return
        if self._is_first and not is_resuming:
            estimate = estimate_cost(calls, {}, self.gateway.settings.price_list)
            # Enough whatever others have paid for already: the first try of a batch needs no reads of the ledger.
            if estimate.to_pay.is_whole and estimate.to_pay.known <= budget.budget:
                budget.reserve(estimate)
                return
        budget.reserve(await self.estimate(calls, is_resuming=is_resuming))

    async def estimate(self, calls: Sequence[PlannedCall], *, is_resuming: bool = False) -> CostEstimate:
        """Estimate the cost of calls.

        The ledger is read where it may hold something: in a retry, after a clear, on the way back from a deferral, and
        where others' images may be had.
        """
        has_past = is_resuming or not self._is_first or self.policy.reuse == "always"
        past = await asyncio.to_thread(self._past, calls) if has_past else {}
        return estimate_cost(calls, past, self.gateway.settings.price_list)

    @property
    def _is_first(self) -> bool:
        return self.attempt.try_number == 1 and not self.attempt.epoch

    def _past(self, calls: Sequence[PlannedCall]) -> dict[Filed, PastGeneration]:
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="imagegen-estimate") as pool:
            if self.policy.reuse == "task":
                # Every record of the task instance: those of other prompts were billed too.
                scope = LedgerKey.of(self.attempt, "task", 0, "").scope
                found = pool.map(self._read_filed, self.ledger.filed(scope))
                return dict(generation for generation in found if generation)
            chains = pool.map(self._read_chain, dict.fromkeys(key for call in calls for key in self._keys(call)))
            return dict(generation for chain in chains for generation in chain)

    def _keys(self, call: PlannedCall) -> Iterator[LedgerKey]:
        """Yield the key of a call, and those of the same call in earlier tries."""
        yield call.key
        if self.policy.reuse == "never":
            for number in range(1, self.attempt.try_number):
                earlier = self.attempt.model_copy(update={"try_number": number, "row": call.row})
                yield LedgerKey.of(earlier, "never", call.key.item, call.key.fingerprint)

    def _read_filed(self, filed: Filed) -> tuple[Filed, PastGeneration] | None:
        entry = self.ledger.read(*filed)
        return (filed, self._past_generation(entry)) if entry else None

    def _read_chain(self, key: LedgerKey) -> list[tuple[Filed, PastGeneration]]:
        chain: list[tuple[Filed, PastGeneration]] = []
        while entry := self.ledger.read(key, len(chain) + 1):
            chain.append(((key, len(chain) + 1), self._past_generation(entry)))
        return chain

    def _past_generation(self, entry: Entry) -> PastGeneration:
        gateway = self.gateway
        timeout = gateway.settings.timeout or gateway.timeout
        action = next_action(CallState(entry), self.attempt, gateway.capabilities, self.policy, timeout)
        is_ours = entry.record.attempt.instance == self.attempt.instance
        return PastGeneration(action, is_ours, cost_of(entry.record, self.gateway.settings.currency))


def cost_of(record: LedgerRecord, currency: str) -> Cost | None:
    """Return what a generation cost, or was expected to, sent or only claimed; ``None`` if neither is known."""
    if record.state in {"failed", "waiting"}:
        return NOTHING
    # What a gateway reported may be more or less than what was expected.
    if record.state in {"landed", "answered"} and (cost := record.cost_in(currency)).is_whole:
        return cost
    estimate = record.estimate_in(currency)
    return estimate if estimate.is_whole else None
