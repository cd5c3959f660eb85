"""Duplicate rows: they ask for the same images, so one of them leads, and the others wait for it and get copies.

Rows are compared by the ledger keys of their calls. A follower is an ordinary job: it finds the leader's record in the
ledger, and copies its images.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from itertools import groupby
from operator import itemgetter

from airflow_provider_imagegen.engine.batch.rows import Row
from airflow_provider_imagegen.exceptions import ImageGenError, RequestRefused
from airflow_provider_imagegen.ledger.models import LedgerKey


class Duplicates:
    """Rows that share calls with others, and how far these are; landed rows have accounted for the cost."""

    def __init__(self, calls: Iterable[tuple[str, LedgerKey]], landed: Iterable[str] = ()) -> None:
        # Two rows that share any call share their first one too: they have the same parameters, split into calls in
        # the same way, and differ only in the number of images.
        groups: defaultdict[LedgerKey, list[tuple[str, list[LedgerKey]]]] = defaultdict(list)
        for row, pairs in groupby(calls, itemgetter(0)):
            keys = [key for _, key in pairs]
            groups[keys[0]].append((row, keys))
        # Only what is shared is kept: most batches have no duplicates, and a hundred thousand rows.
        self._keys = dict(pair for group in groups.values() if len(group) > 1 for pair in group)
        self._waiting: defaultdict[LedgerKey, deque[Row]] = defaultdict(deque)
        self._at_work: set[LedgerKey] = set()
        self._ended: dict[LedgerKey, ImageGenError | None] = {
            key: None for row in landed for key in self._keys.get(row, ())
        }

    def begin(self, row: Row) -> None:
        """Note a row that is at the gateway already."""
        self._at_work.update(self._pending(row))

    def leaders(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows to begin with; the others follow when :meth:`end` returns them."""
        leaders: list[Row] = []
        for row in rows:
            if keys := self._keys.get(row.key):
                self._waiting[keys[0]].append(row)
                leaders += self._ready(keys[0])
            else:
                leaders.append(row)
        return leaders

    def counted(self, row: Row) -> Collection[LedgerKey]:
        """Return the keys of a row whose cost another row accounts for."""
        landed = (key for key in self._keys.get(row.key, ()) if key in self._ended and self._ended[key] is None)
        return frozenset(landed)

    def have_landed(self, row: Row) -> bool:
        """Return whether the images of all calls of a row have landed for other rows."""
        return len(self.counted(row)) == len(self._keys.get(row.key, ())) > 0

    def refusal(self, row: Row) -> ImageGenError | None:
        """Return the gateway's refusal of a row that asked the same; ``None`` if there is none."""
        errors = map(self._ended.get, self._keys.get(row.key, ()))
        return next((error for error in errors if error is not None), None)

    def end(self, row: Row, error: ImageGenError | None) -> list[Row]:
        """Note how a row ended, with an error or well; return rows that waited for it and can begin."""
        keys = self._keys.get(row.key)
        if not keys:
            return []
        pending = self._pending(row)
        self._at_work -= pending
        # After a refusal a duplicate would be refused again, at the cost of a request. After any other failure the next
        # duplicate leads.
        if error is None or (isinstance(error, RequestRefused) and error.billed == "no"):
            self._ended.update(dict.fromkeys(pending, error))
        return self._ready(keys[0])

    def _ready(self, first: LedgerKey) -> list[Row]:
        """Take rows up as far as none of their calls is at work for another: two claims at once would pay twice."""
        waiting, ready = self._waiting[first], []
        while waiting and self._at_work.isdisjoint(pending := self._pending(waiting[0])):
            self._at_work |= pending
            ready.append(waiting.popleft())
        return ready

    def _pending(self, row: Row) -> set[LedgerKey]:
        return {key for key in self._keys.get(row.key, ()) if key not in self._ended}
