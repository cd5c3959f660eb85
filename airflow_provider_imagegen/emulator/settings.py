"""Settings of one emulator before it starts: address, token, pace, dialect of the root path, limits.

Read by everybody in this package, written by the command line and by tests.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from enum import StrEnum

MEGABYTE = 1024 * 1024
LOGNORMAL = "lognormal:"
MOST_SIGMA = 5


class DialectName(StrEnum):
    """Whose API answers at ``/v1/images/...``, a path that several vendors share."""

    ACEDATACLOUD = "acedatacloud"
    OPENAI = "openai"
    APIGO = "apigo"


@dataclass(frozen=True)
class Latency:
    """How long an image takes, in seconds: uniform between two bounds."""

    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"latency runs from low to high, both at least 0: {self.low}-{self.high}")

    @classmethod
    def parse(cls, text: str, jitter: float = 0.0) -> Latency | LognormalLatency:
        """Read ``5`` (widened by ``jitter`` as a fraction of itself), ``1-8`` (a range) or ``lognormal:10,0.2``.

        :param text: seconds, two of them joined by a hyphen, or median and sigma of a lognormal distribution
        :param jitter: 0.2 makes 5 seconds into 4 to 6; ignored for the others
        :raises ValueError: when the text is none of these
        """
        if text.startswith(LOGNORMAL):
            median, _, sigma = text.removeprefix(LOGNORMAL).partition(",")
            return LognormalLatency(float(median), float(sigma))
        low, hyphen, high = text.partition("-")
        if hyphen:
            return cls(float(low), float(high))
        mean = float(low)
        return cls(mean * (1 - jitter), mean * (1 + jitter))

    def draw(self, dice: random.Random) -> float:
        """Return one latency in seconds."""
        return dice.uniform(self.low, self.high)


@dataclass(frozen=True)
class LognormalLatency:
    """How long an image takes, as queues behave: mostly near the median, now and then much longer.

    :param median: seconds that half of the images take at most
    :param sigma: spread of the logarithm; 0.2 puts 19 of 20 between two thirds and one and a half of the median
    """

    median: float
    sigma: float

    def __post_init__(self) -> None:
        if not (0 < self.median < math.inf and 0 <= self.sigma <= MOST_SIGMA):
            raise ValueError(f"a lognormal latency has a median above 0 and a sigma from 0 to {MOST_SIGMA}")

    def draw(self, dice: random.Random) -> float:
        """Return one latency in seconds."""
        return self.median * math.exp(dice.gauss(0, self.sigma))


@dataclass(frozen=True)
class EmulatorSettings:
    """Everything that can be chosen at start; the control routes change some of it while it runs.

    :param token: the bearer token that is accepted
    :param more_tokens: further ones, each with tasks in flight of its own
    :param dialect: who answers at the root's ``/v1/images/...``
    :param seed: of the latencies, so that a run can be repeated
    :param preview_share: which part of the tasks shows a preview in its pending record, 0 to 1
    :param max_in_flight: unfinished tasks of one token at a time before ``rate_limited``; none is unlimited
    :param result_ttl: seconds a result URL lives; none is for good
    :param image_bytes: when set, every result is a noise PNG of exactly this many bytes
    :param cache_bytes: how much the drawn images may take in memory
    """

    host: str = "127.0.0.1"
    port: int = 8790
    token: str = field(default="emulator-token", repr=False)
    more_tokens: tuple[str, ...] = field(default=(), repr=False)
    latency: Latency | LognormalLatency = Latency()
    dialect: DialectName = DialectName.ACEDATACLOUD
    seed: int = 0
    preview_share: float = 0.34
    max_in_flight: int | None = None
    result_ttl: float | None = None
    image_bytes: int | None = None
    cache_bytes: int = 64 * MEGABYTE
