"""The bill of one task instance before it pays: what it would still have to pay, and what it was billed before.

The operators' work asks it where there is a budget, and for dry runs. Reads the ledger, and never writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from airflow_provider_imagegen.catalog.price_list import PriceList
from airflow_provider_imagegen.engine.budget import CostEstimate
from airflow_provider_imagegen.engine.job import JobOptions
from airflow_provider_imagegen.engine.plan import fingerprint, plan
from airflow_provider_imagegen.engine.recovery import Find, Renew, Step, Stop, next_step
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.ledger.models import Attempt, Entry, LedgerKey, LedgerRecord, Reuse
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.money import NOTHING, Cost
from airflow_provider_imagegen.schemas import ImageRequest

AT_ONCE = 10
"""Records to read at once: as many connections as a boto3 client keeps."""

RecordMeaning = Literal["stands", "stops", "is over", "may not be sent"]
"""What a record means: nothing more is paid; nothing more unless there is a later one; a later one is paid;
it is sent if the gateway does not have it."""

Filed = tuple[LedgerKey, int]


@dataclass(frozen=True, slots=True)
class Ask:
    """One call that a task is to make.

    :param key: What it is filed under.
    :param index: Position of its first image among those that its request asks for.
    :param request: What it says.
    :param row: Key of its row, in a batch.
    """

    key: LedgerKey
    index: int
    request: ImageRequest
    row: str = ""

    @property
    def indices(self) -> range:
        """Positions of its images among those that its request asks for."""
        return range(self.index, self.index + self.request.n)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one record says about money.

    :param means: What it means for what is still to be paid.
    :param is_ours: Whether this task instance is billed for it.
    :param cost: What it costs; ``None`` if it does not say.
    """

    means: RecordMeaning
    is_ours: bool
    cost: Cost | None


class Account:
    """The calls of a task instance, beside what the ledger says of them.

    :param asks: The calls; of those filed under the same key, the first is paid.
    :param findings: What was found, by key and generation.
    :param prices: What images cost.
    """

    def __init__(self, asks: Sequence[Ask], findings: Mapping[Filed, Finding], prices: PriceList) -> None:
        self._findings = findings
        self.calls = len(asks)
        self.images = sum(ask.request.n for ask in asks)
        self._estimates: dict[LedgerKey, Cost] = {}
        self._to_pay: dict[LedgerKey, int] = {}
        unpriced: set[str] = set()
        for ask in asks:
            if ask.key in self._estimates:
                continue
            estimate = self._estimates[ask.key] = Cost.of(prices.estimate(ask.request))
            generation = self._generation_to_pay(ask.key)
            if generation is not None:
                self._to_pay[ask.key] = generation
                if not estimate.is_whole:
                    unpriced.add(repr(ask.request.model) if ask.request.model else "the gateway's usual model")
        self.bill = CostEstimate(
            to_pay=sum((self._estimates[key] for key in self._to_pay), NOTHING),
            calls_to_pay=len(self._to_pay),
            unpriced=unpriced,
            billed=sum(self._bills(), NOTHING),
        )

    def estimate(self, key: LedgerKey) -> Cost:
        """Return what a call costs at most."""
        return self._estimates[key]

    def generation_to_pay(self, key: LedgerKey) -> int | None:
        """Return the generation of a call that would be paid for; ``None`` if it costs nothing more."""
        return self._to_pay.get(key)

    def _generation_to_pay(self, key: LedgerKey) -> int | None:
        generation = 1
        while (found := self._findings.get((key, generation))) is not None:
            if found.means == "may not be sent":
                return generation
            has_later = (key, generation + 1) in self._findings
            if found.means == "stands" or (found.means == "stops" and not has_later):
                return None
            generation += 1
        return generation

    def _bills(self) -> Iterator[Cost]:
        """Yield what this task instance is billed for; what may still be sent is to be paid instead."""
        for (key, generation), found in self._findings.items():
            is_to_pay = self._to_pay.get(key) == generation
            if found.is_ours and not is_to_pay:
                yield found.cost or self._estimates.get(key) or Cost(is_whole=False)


class Billing:
    """Estimates what calls will cost.

    :param gateway: Who would be paid.
    :param ledger: The ledger of the destination's bucket.
    :param terms: On what terms the task instance works.
    """

    def __init__(self, gateway: Gateway, ledger: Ledger, terms: JobOptions) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._terms = terms
        self._prices = gateway.settings.price_list

    async def reserve_budget(self, asks: Sequence[Ask], *, is_resuming: bool = False) -> None:
        """Make sure that the budget covers what is asked; without a budget this does nothing.

        :param asks: What is asked.
        :param is_resuming: Whether the task is on its way back from a deferral.
        :raises BudgetExceeded: If it does not, or if that is not known; nothing is paid then.
        :raises LedgerError: If S3 fails.
        """
        budget = self._terms.budget
        if budget is None:
            return
        if self._is_first and not is_resuming:
            bill = Account(asks, {}, self._prices).bill
            if bill.to_pay.is_whole and bill.to_pay.known <= budget.budget:
                # Whatever others have paid for already, this is enough: no need to look.
                budget.open(bill)
                return
        budget.open((await self.account(asks, is_resuming=is_resuming)).bill)

    async def account(self, asks: Sequence[Ask], *, is_resuming: bool = False) -> Account:
        """Return the account of what is asked.

        The ledger is read where it may tell of something: in a retry, after a clear, on the way back from a
        deferral, and where others' images may be had.

        :raises LedgerError: If S3 fails.
        """
        has_past = is_resuming or not self._is_first or self._terms.policy.reuse == "always"
        findings = await asyncio.to_thread(self._findings, asks) if has_past else {}
        return Account(asks, findings, self._prices)

    @property
    def _is_first(self) -> bool:
        return self._terms.attempt.try_number == 1 and not self._terms.attempt.epoch

    def _findings(self, asks: Sequence[Ask]) -> dict[Filed, Finding]:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="imagegen-billing") as pool:
            if self._terms.policy.reuse == "task":
                scope = LedgerKey.of(self._terms.attempt, "task", 0, "").scope
                found = pool.map(self._read_filed, self._ledger.filed(scope))
                return dict(finding for finding in found if finding)
            chains = pool.map(self._read_chain, dict.fromkeys(key for ask in asks for key in self._keys(ask)))
            return dict(finding for chain in chains for finding in chain)

    def _keys(self, ask: Ask) -> Iterator[LedgerKey]:
        """Yield what a call, and the same call of earlier tries, are filed under."""
        yield ask.key
        if self._terms.policy.reuse == "never":
            for number in range(1, self._terms.attempt.try_number):
                earlier = self._terms.attempt.model_copy(update={"try_number": number, "row": ask.row})
                yield LedgerKey.of(earlier, "never", ask.key.item, ask.key.fingerprint)

    def _read_filed(self, filed: Filed) -> tuple[Filed, Finding] | None:
        entry = self._ledger.read(*filed)
        return (filed, self._finding(entry)) if entry else None

    def _read_chain(self, key: LedgerKey) -> list[tuple[Filed, Finding]]:
        chain: list[tuple[Filed, Finding]] = []
        while entry := self._ledger.read(key, len(chain) + 1):
            chain.append(((key, len(chain) + 1), self._finding(entry)))
        return chain

    def _finding(self, entry: Entry) -> Finding:
        terms, gateway = self._terms, self._gateway
        timeout = gateway.settings.timeout or gateway.timeout
        step = next_step(entry, terms.attempt, gateway.capabilities, terms.policy, timeout)
        is_ours = entry.record.attempt.instance == terms.attempt.instance
        return Finding(_meaning(step), is_ours, cost_of(entry.record, self._prices.currency))


def asks_of(request: ImageRequest, gateway: Gateway, attempt: Attempt, reuse: Reuse, row: str = "") -> Iterator[Ask]:
    """Yield the calls of a request.

    :param row: Key of its row, in a batch.
    """
    if reuse == "never" and row:
        attempt = attempt.model_copy(update={"row": row})
    for call in plan(request, gateway):
        key = LedgerKey.of(attempt, reuse, call.index, fingerprint(call.request, gateway))
        yield Ask(key, call.index, call.request, row)


def cost_of(record: LedgerRecord, currency: str) -> Cost | None:
    """Return what a generation costs: what it did, else what it was expected to; ``None`` if it does not say.

    A request that was claimed counts as if it had been sent.
    """
    if record.state == "failed":
        return NOTHING
    if record.state in {"landed", "answered"} and (cost := record.cost_in(currency)).is_whole:
        return cost
    estimate = record.estimate_in(currency)
    return estimate if estimate.is_whole else None


def _meaning(step: Step) -> RecordMeaning:
    match step:
        case Renew():
            return "is over"
        case Find():
            return "may not be sent"
        case Stop():
            return "stops"
    return "stands"
