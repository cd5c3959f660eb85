"""Many cases from one seed, until they are done, the time is up, or a case ends unexpectedly."""

from __future__ import annotations

import itertools
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.targets import SHARES, TARGETS


@dataclass(frozen=True)
class Finding:
    """A case that ended with an unexpected exception."""

    seed: int
    number: int
    target: str
    case: bytes
    traceback: str

    def __str__(self) -> str:
        return f"case {self.number} of seed {self.seed}, target {self.target!r}:\n{self.traceback}"


@dataclass
class Campaign:
    """:param seed: Decides every case.

    :param shares: Target → how often it is chosen.
    :param outcomes: (target, outcome) → how often.
    """

    seed: int
    shares: Mapping[str, int] = field(default_factory=lambda: SHARES)
    cases: int = 0
    seconds: float = 0.0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    finding: Finding | None = None

    def run(self, goes_on: Callable[[int, float], bool]) -> None:
        """Run cases while ``goes_on(cases, seconds)``; the first finding ends it."""
        started = time.monotonic()
        for number in itertools.count():
            self.seconds = time.monotonic() - started
            if self.finding is not None or not goes_on(self.cases, self.seconds):
                break
            self.run_case(number)

    def run_case(self, number: int) -> None:
        """Run one case; the same number is always the same case."""
        random = Random(f"{self.seed}:{number}")
        [name] = random.choices(list(self.shares), list(self.shares.values()))
        case = TARGETS[name].make(random)
        self.cases += 1
        try:
            self.outcomes[name, TARGETS[name].run(case)] += 1
        except Exception:  # noqa: BLE001 -- unexpected exceptions are what the fuzzer searches for
            self.finding = Finding(self.seed, number, name, case, traceback.format_exc())
