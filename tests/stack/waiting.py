"""Asking until something is so, with a deadline: the only place of the stack that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WaitTimeoutError(TimeoutError):
    """What was waited for did not come true before the deadline."""


def wait_until(probe: Callable[[], T | None], *, what: str, timeout: float, interval: float = 0.1) -> T:
    """
    Call a probe until it answers something true.

    :param probe: asked again and again; its exceptions end the waiting
    :param what: what is waited for, in words, for the error message
    :param timeout: seconds until giving up
    :param interval: seconds between two questions
    :return: the probe's first true answer
    :raises WaitTimeoutError: when the time is over
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"Waited {timeout:g} s for {what}, in vain.")
        time.sleep(interval)
