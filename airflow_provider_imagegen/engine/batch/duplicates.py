"""Rows that ask for the same image: the first leads, the others wait for it and get copies.

What rows are the same is decided by their ledger keys, so that the ledger does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from airflow_provider_imagegen.exceptions import ImageGenError, RequestRefused
from airflow_provider_imagegen.ledger.models import LedgerKey

Keys = frozenset[LedgerKey]


class Duplicates:
    """Which keys are being worked on, and which are settled."""

    def __init__(self) -> None:
        self._at_work: set[LedgerKey] = set()
        self._settled: set[LedgerKey] = set()
        self._refused: dict[LedgerKey, ImageGenError] = {}
        self._change = asyncio.Event()

    def settle(self, keys: Iterable[LedgerKey]) -> None:
        """Note keys whose images have landed, and are accounted for."""
        self._settled.update(keys)

    def must_wait(self, keys: Keys) -> bool:
        """Return whether another row is at work on one of these."""
        return not self._at_work.isdisjoint(keys)

    def refusal(self, keys: Keys) -> ImageGenError | None:
        """Return what the gateway said to a row that asked the same, if it refused that for what it says."""
        return next((self._refused[key] for key in keys if key in self._refused), None)

    def begin(self, keys: Keys) -> Keys:
        """Take keys up.

        :return: Those that are settled: another row accounts for their cost.
        """
        counted = keys & self._settled
        self._at_work |= keys - counted
        return counted

    def end(self, keys: Keys, error: ImageGenError | None) -> None:
        """Let go of keys.

        :param keys: Those that were not settled before.
        :param error: Why their images have not landed; ``None`` if they have.
        """
        self._at_work -= keys
        if error is None:
            self._settled |= keys
        elif isinstance(error, RequestRefused) and error.billed == "no":
            self._refused.update(dict.fromkeys(keys, error))
        self.wake()

    def listen(self) -> None:
        """Take note of changes from now on."""
        self._change.clear()

    async def change(self) -> None:
        """Wait until a row has let go of its keys, or somebody has said :meth:`wake`, since :meth:`listen`."""
        await self._change.wait()

    def wake(self) -> None:
        """End :meth:`change`."""
        self._change.set()
