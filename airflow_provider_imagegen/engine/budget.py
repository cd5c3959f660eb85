"""The budget of a task instance and the cost estimate it is checked against: pure decisions, no I/O.

Reserved before anything is paid, with all that is foreseen; asked again where an image unexpectedly must be paid again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_imagegen.catalog.price_list import PriceList
from airflow_provider_imagegen.engine.plan import PlannedCall
from airflow_provider_imagegen.engine.recovery import Action, Find, Reclaim, Renew, Stop
from airflow_provider_imagegen.exceptions import BudgetExceeded
from airflow_provider_imagegen.ledger.models import LedgerKey
from airflow_provider_imagegen.money import NOTHING, Cost, shown

_MODELS_SHOWN = 3

Filed = tuple[LedgerKey, int]
"""Key and generation of a ledger record."""


@dataclass(frozen=True, slots=True)
class PastGeneration:
    """One record of the ledger, as far as it is about money; a cost of ``None`` is not known."""

    action: Action
    is_ours: bool
    cost: Cost | None


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """The cost of a task instance's calls, beside what it was billed before.

    :param costs: Cost of each call, at most.
    :param generations: The generation of each call that is still to be paid; the other calls cost nothing more.
    :param billed: What earlier tries were billed, and what they have running at the gateway.
    """

    calls: int
    images: int
    costs: Mapping[LedgerKey, Cost]
    generations: Mapping[LedgerKey, int]
    unpriced: Collection[str]
    billed: Cost

    @property
    def to_pay(self) -> Cost:
        """Cost of all that is still to be paid, at most."""
        return sum((self.costs[key] for key in self.generations), NOTHING)


def estimate_cost(
    calls: Sequence[PlannedCall], past: Mapping[Filed, PastGeneration], prices: PriceList
) -> CostEstimate:
    """Estimate the cost of calls; of those with the same key, the first is paid."""
    costs: dict[LedgerKey, Cost] = {}
    generations: dict[LedgerKey, int] = {}
    unpriced: set[str] = set()
    for call in calls:
        # Equal calls are paid once: the others get copies.
        if call.key in costs:
            continue
        cost = costs[call.key] = Cost.of(prices.estimate(call.request))
        generation = _generation_to_pay(call.key, past)
        if generation is not None:
            generations[call.key] = generation
            if not cost.is_whole:
                unpriced.add(repr(call.request.model) if call.request.model else "the gateway's usual model")
    billed = [
        found.cost or costs.get(key) or Cost(is_whole=False)
        for (key, generation), found in past.items()
        # One that may still be sent is to be paid, and not billed: counted on both sides, a retry would be refused.
        if found.is_ours and generations.get(key) != generation
    ]
    return CostEstimate(
        calls=len(calls),
        images=sum(call.count for call in calls),
        costs=costs,
        generations=generations,
        unpriced=unpriced,
        billed=sum(billed, NOTHING),
    )


def _generation_to_pay(key: LedgerKey, past: Mapping[Filed, PastGeneration]) -> int | None:
    """Return the generation of a call that would be paid for; ``None`` if it costs nothing more."""
    generation = 1
    while (found := past.get((key, generation))) is not None:
        if isinstance(found.action, Find | Reclaim):
            return generation
        has_later = (key, generation + 1) in past
        if not isinstance(found.action, Renew) and not (isinstance(found.action, Stop) and has_later):
            return None
        generation += 1
    return generation


class Budget:
    """What one task instance may pay in all its tries."""

    def __init__(self, budget: Decimal, currency: str) -> None:
        self.budget = budget
        self._currency = currency
        self._left = budget

    def reserve(self, estimate: CostEstimate) -> None:
        """Reserve what is foreseen; refuse what is not certain to stay within the budget."""
        if estimate.generations:
            self._check(estimate)
        self._left = self.budget - estimate.billed.known - estimate.to_pay.known

    def take(self, estimate: Decimal | None) -> None:
        """Reserve what was not foreseen; refuse what may be more than what is left."""
        if estimate is None or estimate > self._left:
            cost = "an unknown amount" if estimate is None else self._with_currency(estimate)
            left = self._with_currency(max(self._left, Decimal(0)))
            raise BudgetExceeded(
                f"an image that was paid for is gone; another would cost {cost}, and {left} are left of the budget"
            )
        self._left -= estimate

    def _check(self, estimate: CostEstimate) -> None:
        if estimate.unpriced:
            models = sorted(estimate.unpriced)
            names = ", ".join(models[:_MODELS_SHOWN]) + (", …" if len(models) > _MODELS_SHOWN else "")
            raise BudgetExceeded(
                f"budget={shown(self.budget)} is set, and what it would cost is not known for {names}",
                advice="Give a price in the connection's extra prices, or leave budget out.",
            )
        # Records of an older release hold no price. Counted as nothing, every retry would have the whole budget again.
        if not estimate.billed.is_whole:
            raise BudgetExceeded(
                f"budget={shown(self.budget)} is set, and what earlier tries were billed is not known",
                advice="Their records hold no price; leave budget out, or begin with another run.",
            )
        if estimate.to_pay.known + estimate.billed.known > self.budget:
            to_pay, billed = self._with_currency(estimate.to_pay.known), self._with_currency(estimate.billed.known)
            raise BudgetExceeded(
                f"it would cost up to {to_pay}, {billed} are billed already, "
                f"and the budget is {self._with_currency(self.budget)}"
            )

    def _with_currency(self, amount: Decimal) -> str:
        return f"{shown(amount)} {self._currency}"
