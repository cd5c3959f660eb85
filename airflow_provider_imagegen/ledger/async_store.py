"""Access to the ledger from an event loop, by threads: the ledger itself is blocking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_provider_imagegen.exceptions import NOT_NOW, ImageGenError, LedgerError
from airflow_provider_imagegen.ledger.models import Entry, LedgerKey
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import TaskFailure

log = logging.getLogger(__name__)

RETRY_WRITES = 30.0


class AsyncLedger:
    """The records of one ledger."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock

    async def read(self, key: LedgerKey, generation: int) -> Entry | None:
        """Return a record, or ``None`` if there is none."""
        return await asyncio.to_thread(self._ledger.read, key, generation)

    async def reread(self, key: LedgerKey, entry: Entry) -> Entry:
        """Return a record as it stands now."""
        current = await self.read(key, entry.record.generation)
        if current is None:
            raise LedgerError(f"the record {key} has disappeared", billed="unknown")
        return current

    async def update(self, key: LedgerKey, entry: Entry, **changes: Any) -> Entry:
        """Change a record, provided it still is what was read; otherwise raise ``LedgerConflict``."""
        return await asyncio.to_thread(self._ledger.update, key, entry, updated_at=self._clock(), **changes)

    async def update_with_retries(self, key: LedgerKey, entry: Entry, **changes: Any) -> Entry:
        """Change a record, and retry while S3 fails, but not after a ``LedgerConflict``."""
        # A claim that is left behind looks as if the request had been sent: where the gateway has no lookup by trace
        # id, that is an unknown outcome, which a person must settle. A conflict is not retried: it is a decision.
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: type(error) is LedgerError),
            wait=wait_random_exponential(multiplier=0.5, max=10),
            stop=stop_after_delay(RETRY_WRITES),
            reraise=True,
        )
        return await retrying(self.update, key, entry, **changes)

    async def note_refusal(self, key: LedgerKey, entry: Entry, error: ImageGenError) -> None:
        """Note that nothing was accepted, so that the next try need not look for it before it sends."""
        failure = TaskFailure(code=error.code or error.kind, message=error.message)
        state = "waiting" if isinstance(error, NOT_NOW) else "failed"
        try:
            await self.update_with_retries(key, entry, state=state, failure=failure)
        except LedgerError as fault:
            # The refusal itself is the error that the user must see.
            log.warning("The refusal could not be noted: %s", fault)
