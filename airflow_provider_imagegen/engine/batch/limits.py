"""The limits of a batch: how many requests may be at the gateway, when it stops sending, and when waiting ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from copy import copy
from typing import TypeVar

from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.engine.plan import split
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    ConfigurationError,
    DestinationError,
    ImageGenError,
    LandingError,
    OutOfBalance,
    PaidImageLost,
    PartialDelivery,
    RequestRefused,
    UploadFailed,
)
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.schemas import Submission

T = TypeVar("T")

LOST_IN_A_ROW = 20
"""Rows that were paid for and did not arrive, or were answered with a 403, after which no more are sent."""

_NOT_LOST_NOW = (PartialDelivery, PaidImageLost)
_CONCERNS_ALL = (AuthenticationError, OutOfBalance, DestinationError, ConfigurationError)


class Slots:
    """The slots of a batch at its gateway. A row takes one for each of its calls."""

    def __init__(self, client: ImageClient) -> None:
        self._gateway = client.gateway
        self._capacity = client.settings.max_in_flight
        self._free = asyncio.Semaphore(self._capacity)
        self._taking = asyncio.Lock()

    async def take(self, row: Row) -> int:
        """Wait for the slots of a row, take them, and return how many; a row with more calls takes all."""
        wanted = min(sum(1 for _ in split(row.request, self._gateway)), self._capacity)
        # One row at a time: two rows that have half of their slots each would wait for each other for ever.
        async with self._taking:
            for _ in range(wanted):
                await self._free.acquire()
        return wanted

    async def take_free(self, submission: Submission) -> int:
        """Take slots for calls that are at the gateway already, as far as there are any, and return how many."""
        # The connection may allow fewer requests than when these were sent. Waiting for slots would keep the batch
        # from looking up what it has paid for.
        taken = 0
        while taken < len(submission.open) and not self._free.locked():
            await self._free.acquire()
            taken += 1
        return taken

    def release(self, number: int) -> None:
        """Give slots back."""
        for _ in range(number):
            self._free.release()


class CircuitBreaker:
    """Stops a batch if the failure of one row would be the failure of all that follow.

    :param lost: Rows in a row that were paid for and did not arrive, as counted before a deferral.
    :param forbidden: Likewise those that were answered with a 403.
    """

    def __init__(self, lost: int = 0, forbidden: int = 0) -> None:
        self.lost = lost
        self.forbidden = forbidden
        self.blown_by: ImageGenError | None = None
        """Why nothing more is sent; ``None`` while all is well."""

    def see(self, error: ImageGenError | None) -> None:
        """Count how a row ended: with an error, or well."""
        # Rows that are paid for and do not land, one after the other, mean that S3 or the network is down: going on
        # would pay for a hundred thousand images that may expire before they can be landed.
        is_lost = isinstance(error, LandingError) and not isinstance(error, _NOT_LOST_NOW) and error.billed == "yes"
        self.lost = self.lost + 1 if is_lost else 0
        # One 403 may be about one row; many, one after the other, are about the account.
        is_forbidden = type(error) is RequestRefused and error.status == 403
        self.forbidden = self.forbidden + 1 if is_forbidden else 0
        if self.blown_by is not None or error is None:
            return
        if isinstance(error, _CONCERNS_ALL) or self.forbidden >= LOST_IN_A_ROW:
            self.blown_by = copy(error)
        elif self.lost >= LOST_IN_A_ROW:
            message = f"{self.lost} rows in a row were paid for and did not arrive, the last because {error.message}"
            self.blown_by = UploadFailed(message)

    def refusal(self) -> ImageGenError | None:
        """Return the error of a row that is not sent any more; ``None`` if it may be."""
        if self.blown_by is None:
            return None
        refusal = copy(self.blown_by)
        # The row that blew it may have been billed. This one was not sent.
        refusal.message, refusal.billed = f"not sent: {self.blown_by.message}", "no"
        refusal.task_id = refusal.trace_id = None
        return refusal


class HandOver:
    """Ends the waiting of all rows together, when for some seconds nothing was submitted and no slot became free.

    :param grace: These seconds; ``None`` to wait to the end.
    :param looks_once: Whether rows that were submitted before are looked up only once, and handed over if they still
        run.
    """

    def __init__(self, grace: float | None, *, looks_once: bool = False) -> None:
        self.looks_once = looks_once
        self.is_over = False
        """Whether rows have been handed over: what begins after that, the next worker begins."""
        self._grace = grace
        self._submitting = 0
        self._at: float | None = None
        self._waits: set[asyncio.Timeout] = set()
        # Unix seconds, as what gateways ask for is: when a request was last accepted, or a task last ended.
        self._last_success = time.time()

    def begin_submit(self) -> None:
        """Count one more submit; nothing is handed over until it ends."""
        self._submitting += 1
        if not self.is_over:
            self._end_waits_at(None)

    def end_submit(self) -> None:
        """Count one less."""
        self._submitting -= 1
        if not self._submitting and self._grace is not None:
            self._end_waits_at(asyncio.get_running_loop().time() + (0 if self.is_over else self._grace))

    def end_all(self) -> None:
        """Hand everything over."""
        self.is_over = True
        self._end_waits_at(asyncio.get_running_loop().time())

    @property
    def left(self) -> float:
        """Seconds until a row that the gateway has no slot for is left to the next worker, if nothing happens."""
        if self.is_over:
            return 0.0
        return float("inf") if self._grace is None else max(0.0, self._last_success + self._grace - time.time())

    async def wait(self, wait: Awaitable[T]) -> T | None:
        """Return the result of a wait for what was accepted; ``None`` if waiting ends before it does."""
        self._last_success = time.time()
        try:
            async with asyncio.timeout_at(self._at) as timeout:
                self._waits.add(timeout)
                result = await wait
        except TimeoutError:
            # A library may raise it too, and that is a failure of the row, not the end of waiting.
            if not timeout.expired():
                raise
            self.is_over = True
            return None
        finally:
            self._waits.discard(timeout)
        self._last_success = time.time()
        return result

    def _end_waits_at(self, when: float | None) -> None:
        if when == self._at:
            return
        self._at = when
        for timeout in self._waits:
            # One that has just expired takes no other time, and its row is handed over.
            if not timeout.expired():
                timeout.reschedule(when)
