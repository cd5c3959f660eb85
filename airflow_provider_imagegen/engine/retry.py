"""Retries of a request that was certainly not accepted: after a 429, or where no byte left.

The HTTP client must not retry paid requests, nor may any proxy that is ours: to urllib3, httpx and the vendors' own
clients, a reset after the request was read looks like one before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from airflow_provider_imagegen.exceptions import NOT_NOW, ImageGenError, RateLimited, TaskStopped

Response = TypeVar("Response")


Tell = Callable[[ImageGenError, float], None]


async def retry_until(
    send_once: Callable[[], Awaitable[Response]],
    deadline: float,
    clock: Callable[[], float],
    tell: Tell,
    sleep: Callable[[float], Awaitable[None]],
) -> Response:
    """Send again what was certainly not accepted: as asked by ``Retry-After``, else with jitter, until the deadline.

    :param deadline: Unix seconds.
    :param clock: Wall clock, in unix seconds.
    :param tell: Called before every wait: why, and how many seconds it takes.
    :param sleep: Waits so many seconds.
    """
    # With jitter: mapped tasks that were refused together would otherwise come back together.
    backoff = wait_random_exponential(multiplier=1, max=60)

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        # On top of what the gateway asked for, never instead of it.
        asked = error.retry_after if isinstance(error, RateLimited) and error.retry_after is not None else 0.0
        return asked + backoff(state)

    def is_too_late(state: RetryCallState) -> bool:
        # A pause beyond the deadline would hold a worker for nothing.
        return clock() + state.upcoming_sleep > deadline

    def before_pause(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ImageGenError):
            tell(error, state.upcoming_sleep)

    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, NOT_NOW) and not isinstance(error, TaskStopped)),
        sleep=sleep,
        wait=pause,
        stop=is_too_late,
        before_sleep=before_pause,
        reraise=True,
    )
    return await retrying(send_once)
