"""Amounts of money and sums of them, of which part may not be known; exact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal

STEP = Decimal("0.000000001")
"""Smallest part of a currency's unit that is distinguished: exact as a JSON number too."""

# Counts come from gateways: whatever they say must not overflow.
_WIDE = Context(prec=100)
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


def amount_of(given: object) -> Decimal:
    """Read an amount as people write it: ``"0.042"``, ``0.042`` or ``1``."""
    # By way of text, so that 0.1 is a tenth and not its binary neighbour.
    if isinstance(given, float | Decimal) and not isinstance(given, bool):
        given = f"{Decimal(str(given)):f}"
    elif isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str) or not _AMOUNT.fullmatch(given.strip()):
        raise ValueError("an amount like '0.042', with at most 12 digits on either side of the point")
    return Decimal(given.strip())


def rounded(amount: Decimal) -> Decimal:
    """Return an amount as it is stored and shown."""
    # Without trailing zeros; adding 0 turns the 1E+2 that normalize() makes of 100 back into 100.
    return amount.quantize(STEP, ROUND_HALF_EVEN, _WIDE).normalize() + 0


def shown(amount: Decimal) -> str:
    """Return an amount as people read it."""
    return f"{rounded(amount):f}"


@dataclass(frozen=True)
class Cost:
    """A sum of money: what is known of it, and whether that is all."""

    known: Decimal = Decimal(0)
    is_whole: bool = True

    @classmethod
    def of(cls, amount: Decimal | None) -> Cost:
        """Return what costs so much, or nobody knows how much."""
        return UNKNOWN if amount is None else cls(rounded(amount))

    @property
    def total(self) -> Decimal | None:
        """The whole sum; ``None`` if part of it is not known."""
        return self.known if self.is_whole else None

    def __add__(self, other: Cost) -> Cost:
        return Cost(rounded(self.known + other.known), self.is_whole and other.is_whole)


NOTHING = Cost()
UNKNOWN = Cost(is_whole=False)


def shares(amount: Decimal | None, count: int) -> tuple[Decimal | None, ...]:
    """Return what each of ``count`` images cost of an amount; they add up to it exactly."""
    if amount is None:
        return (None,) * count
    # In whole steps, the rest to the first ones: shares that are each rounded do not add up to what was paid.
    steps = int((rounded(amount) / STEP).to_integral_value())
    return tuple(rounded(part * STEP) for part in _parts(steps, count))


def shares_of_tokens(usage: Mapping[str, object], count: int) -> tuple[dict[str, int], ...]:
    """Return what each of ``count`` images took of the tokens of one response; they add up exactly."""
    counts = {name: _parts(number, count) for name, number in usage.items() if type(number) is int and number >= 0}
    return tuple({name: parts[position] for name, parts in counts.items()} for position in range(count))


def _parts(number: int, count: int) -> list[int]:
    part, rest = divmod(number, max(1, count))
    return [part + (position < rest) for position in range(count)]
