"""How many requests may be at the gateway at once."""

from __future__ import annotations

import asyncio


class Slots:
    """The places of a batch at its gateway. A row takes as many as it has calls, and gives them back when it is done.

    :param capacity: Number of places.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._taken = 0
        self._change = asyncio.Event()

    @property
    def taken(self) -> int:
        """Number of places that are taken."""
        return self._taken

    async def take(self, wanted: int) -> int:
        """Wait until there are places, then take them; for one caller at a time.

        :param wanted: Number of places; more than there are counts as all.
        :return: Number of places taken, to be given back.
        """
        wanted = min(wanted, self._capacity)
        while self._taken + wanted > self._capacity:
            self._change.clear()
            await self._change.wait()
        return self.hold(wanted)

    def hold(self, number: int) -> int:
        """Take places for what is at the gateway already, whether or not there are any."""
        self._taken += number
        return number

    def give_back(self, number: int) -> None:
        """Give places back."""
        self._taken -= number
        self._change.set()
