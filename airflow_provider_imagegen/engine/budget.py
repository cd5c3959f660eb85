"""The budget of one try: what may be paid, and the refusal where that is not enough.

Opened before anything is paid, with all that is foreseen; asked again where an image must unexpectedly be paid again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_imagegen.exceptions import BudgetExceeded
from airflow_provider_imagegen.money import Cost, shown

_MODELS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """What an Airflow task instance has to pay, and has been billed.

    :param to_pay: What it would still have to pay, at most.
    :param calls_to_pay: Number of calls for that.
    :param unpriced: Models among them without a known price.
    :param billed: What its earlier tries were billed, and what they have running at the gateway.
    """

    to_pay: Cost
    calls_to_pay: int
    unpriced: Collection[str]
    billed: Cost


class Budget:
    """What one task instance may pay.

    :param budget: In all, over all of its tries.
    :param currency: What it is in.
    """

    def __init__(self, budget: Decimal, currency: str) -> None:
        self.budget = budget
        self._currency = currency
        self._left = budget

    def open(self, bill: CostEstimate) -> None:
        """Set apart what is foreseen.

        :raises BudgetExceeded: If something would have to be paid, and it is not certain to stay within the budget.
        """
        if bill.calls_to_pay:
            self._check(bill)
        self._left = self.budget - bill.billed.known - bill.to_pay.known

    def take(self, estimate: Decimal | None) -> None:
        """Set apart what was not foreseen.

        :param estimate: What it costs at most; ``None`` if that is not known.
        :raises BudgetExceeded: If that may be more than what is left.
        """
        if estimate is None or estimate > self._left:
            cost = "an unknown amount" if estimate is None else self._in_words(estimate)
            left = self._in_words(max(self._left, Decimal(0)))
            raise BudgetExceeded(
                f"an image that was paid for is gone; another would cost {cost}, and {left} are left of the budget"
            )
        self._left -= estimate

    def _check(self, bill: CostEstimate) -> None:
        if bill.unpriced:
            models = sorted(bill.unpriced)
            words = ", ".join(models[:_MODELS_SHOWN]) + (", …" if len(models) > _MODELS_SHOWN else "")
            raise BudgetExceeded(
                f"budget={shown(self.budget)} is set, and what it would cost is not known for {words}",
                advice="Give a price in the connection's extra prices, or leave budget out.",
            )
        if not bill.billed.is_whole:
            raise BudgetExceeded(
                f"budget={shown(self.budget)} is set, and what earlier tries were billed is not known",
                advice="Their records hold no price; leave budget out, or begin with another run.",
            )
        if bill.to_pay.known + bill.billed.known > self.budget:
            raise BudgetExceeded(
                f"it would cost up to {self._in_words(bill.to_pay.known)}, {self._in_words(bill.billed.known)} are "
                f"billed already, and the budget is {self._in_words(self.budget)}"
            )

    def _in_words(self, amount: Decimal) -> str:
        return f"{shown(amount)} {self._currency}"
