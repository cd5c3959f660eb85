"""What one emulator is told before it opens: address, token, pace, dialect of the root path, limits.

Read by everybody in this package, written by the command line and by tests.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum

MEGABYTE = 1024 * 1024


class DialectName(StrEnum):
    """Whose API answers at ``/v1/images/...``, a path that several vendors share."""

    ACEDATACLOUD = "acedatacloud"
    OPENAI = "openai"
    APIGO = "apigo"


@dataclass(frozen=True)
class Latency:
    """How long a picture takes, in seconds: uniform between two bounds."""

    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"latency runs from low to high, both at least 0: {self.low}-{self.high}")

    @classmethod
    def parse(cls, text: str, jitter: float = 0.0) -> Latency:
        """Read ``5`` (seconds, widened by ``jitter`` as a fraction of itself) or ``1-8`` (a range).

        :param text: seconds, or two numbers joined by a hyphen
        :param jitter: 0.2 makes 5 seconds into 4 to 6; ignored for a range
        :raises ValueError: when the text is neither
        """
        low, hyphen, high = text.partition("-")
        if hyphen:
            return cls(float(low), float(high))
        mean = float(low)
        return cls(mean * (1 - jitter), mean * (1 + jitter))

    def draw(self, dice: random.Random) -> float:
        """Return one latency in seconds."""
        return dice.uniform(self.low, self.high)


@dataclass(frozen=True)
class EmulatorSettings:
    """Everything that can be chosen at start; the control routes change some of it while it runs.

    :param token: the one bearer token that is accepted
    :param dialect: who answers at the root's ``/v1/images/...``
    :param seed: of the latencies, so that a run can be repeated
    :param preview_share: which part of the tasks shows a preview in its pending record, 0 to 1
    :param max_in_flight: unfinished tasks at a time before ``rate_limited``; none is unlimited
    :param result_ttl: seconds a result URL lives; none is for good
    :param image_bytes: when set, every result is a noise PNG of exactly this many bytes
    :param cache_bytes: how much the drawn pictures may take in memory
    """

    host: str = "127.0.0.1"
    port: int = 8790
    token: str = field(default="emulator-token", repr=False)
    latency: Latency = Latency()
    dialect: DialectName = DialectName.ACEDATACLOUD
    seed: int = 0
    preview_share: float = 0.34
    max_in_flight: int | None = None
    result_ttl: float | None = None
    image_bytes: int | None = None
    cache_bytes: int = 64 * MEGABYTE
