"""Remembers what was read a moment ago, in bounded space: listings and images ask for the same again and again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """The most recently used of so many things, each for some time.

    :param size: How many.
    :param seconds: For how long.
    :param clock: Monotonic seconds.
    """

    def __init__(self, size: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return what was kept under a key, if it has not expired."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        until, value = kept
        if until < self._clock():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> V:
        """Keep something, at the cost of what was not used for longest."""
        self._kept[key] = (self._clock() + self._seconds, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return value
