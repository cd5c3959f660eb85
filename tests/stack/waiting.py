"""Timeouts, and waiting for conditions: the only module of the stack that sleeps.

No bound of the suite is a statement about speed. Each is at least ten times what a quiet machine needs, and
:data:`SCALE` makes it longer on a slow one.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SCALE_VARIABLE = "IMAGEGEN_TEST_TIMEOUT_SCALE"
_REFERENCE_SECONDS = 0.03
"""Duration of the measurement on the machine for which the limits were chosen."""
_LARGEST_SCALE = 4.0
"""With a larger scale a hanging test would exceed the 90 minutes of a whole run, and its name would not be reported."""


def _measured_scale() -> float:
    """Measure by which factor this machine is slower now than the one the bounds were chosen on, from 1 to 4."""
    started, total = time.perf_counter(), 0
    for number in range(500_000):
        total += number
    return min(_LARGEST_SCALE, max(1.0, (time.perf_counter() - started) / _REFERENCE_SECONDS))


SCALE = float(os.environ.setdefault(SCALE_VARIABLE, f"{_measured_scale():.1f}"))
"""Factor of all bounds, inherited by every process of a test run; measured unless the environment names it."""

HANG = 600.0 * SCALE
"""Seconds after which something that has not happened never will."""


def scaled(seconds: float) -> float:
    """
    Return a bound for this machine.

    :param seconds: the bound for a quiet machine, ten times what it needs
    :return: seconds
    """
    return seconds * SCALE


class WaitTimeoutError(TimeoutError):
    """The condition did not become true before the deadline."""


def wait_until(probe: Callable[[], T | None], *, what: str, timeout: float = HANG, interval: float = 0.1) -> T:
    """
    Call a probe until it returns something true.

    :param probe: called again and again; its exceptions end the waiting
    :param what: what is waited for, in words, for the error message
    :param timeout: seconds until giving up; the default is right unless a hang costs more than the wait
    :param interval: seconds between two calls
    :return: the probe's first true result
    :raises WaitTimeoutError: when the time is over
    """
    deadline = time.monotonic() + timeout
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"Waited {timeout:g} s for {what}, in vain.")
        time.sleep(interval)
