"""Delete old records of a ledger, and the documents beside them; :func:`reason_to_keep` is the rule.

A deleted record is taken for a request that was never sent. So records are deleted only if their requests are settled,
and all generations of one key or none: a task begins with generation 1, and goes on from one to the next.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING

from airflow_provider_imagegen.exceptions import LedgerCorrupt
from airflow_provider_imagegen.ledger.documents import DOCUMENT, tasks_in
from airflow_provider_imagegen.ledger.models import SHARED_SCOPE, Entry, LedgerKey
from airflow_provider_imagegen.ledger.store import Ledger, Listed
from airflow_provider_imagegen.storage.client import CONNECTIONS

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Result = tuple[str, str]
"""The state of a record, or another word for what an object is; and what became of it."""

DAY = 86_400
MINIMUM_AGE = 30 * DAY
"""Seconds. Timeouts and retries have no upper limit; the longest default deadline, of a batch, is 6 hours a try."""
SETTLED = frozenset({"landed", "failed"})
AT_ONCE = 1000
"""Ledger keys that are taken from the listing at a time: so many are in memory."""

_DURATION = re.compile(r"([0-9]{1,6})([dh])")
_UNITS = {"d": DAY, "h": 3600}
_CHANGED = "kept: changed meanwhile, or incomplete"


def seconds_of(duration: str) -> int:
    """Return the seconds of a duration such as ``365d`` or ``8760h``.

    :raises ValueError: If it is none, or so short that tasks may still need what is older.
    """
    match = _DURATION.fullmatch(duration)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if seconds < MINIMUM_AGE:
        expected = f"days or hours, such as 365d or 8760h, and at least {MINIMUM_AGE // DAY}d"
        raise ValueError(f"invalid --older-than {duration!r} (expected {expected})")
    return seconds


def reason_to_keep(age: float, older_than: float, states: Iterable[str]) -> str:
    """Return why objects that belong together are kept; empty if they may be deleted.

    :param age: Seconds since the last write of any of them.
    :param older_than: Age in seconds up to which everything is kept.
    :param states: States of the records among them, or of those that they name.
    """
    if age <= older_than:
        return "kept: not old enough"
    # Whatever its age, it may stand for an image that was paid for: a retry or a person can still get it by the record.
    if any(state not in SETTLED for state in states):
        return "kept: not settled"
    return ""


@dataclass(frozen=True)
class Pruner:
    """Deletes what is old and settled.

    :param older_than: Age in seconds up to which everything is kept.
    :param now: Unix seconds.
    """

    ledger: Ledger
    s3: S3Client
    older_than: float
    now: float
    is_dry_run: bool = False

    def prune(self) -> Counter[Result]:
        """Prune the whole ledger; return how many objects ended in which way."""
        results: Counter[Result] = Counter()
        # S3 lists by name, so the generations of a key follow each other.
        groups = (list(group) for _, group in groupby(self.ledger.listed(), _owner))
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="imagegen-prune") as pool:
            # Not map alone: it takes all there is at once, and a ledger may be larger than memory.
            while some := list(islice(groups, AT_ONCE)):
                for ended in pool.map(self._prune, some):
                    results.update(ended)
        return results

    def _prune(self, group: list[Listed]) -> list[Result]:
        filed = group[0].filed
        document = DOCUMENT.fullmatch(group[0].name.removeprefix(f"{self.ledger.prefix}/"))
        if filed is None and document is None:
            return []
        age = self.now - max(listed.modified for listed in group)
        what, reason = "record" if filed else "document", reason_to_keep(age, self.older_than, ())
        if filed is not None and filed[0].scope == SHARED_SCOPE:
            # Any later task may reuse its image, and that does not make the record younger.
            reason = "kept: shared"
        # Most of a ledger is not old enough, which the listing tells, and need not be read.
        if reason:
            return [(what, reason)] * len(group)
        try:
            if filed is not None:
                return self._prune_records(filed[0], group, age)
            # Only the first line of what a decorated function returned is ours, and no line names tasks.
            names_tasks = document is not None and document["name"] != "answer"
            reason = reason_to_keep(age, self.older_than, self._states_in(group[0]) if names_tasks else ())
            return self._delete(group, [what], reason)
        except (LedgerCorrupt, ValueError):
            return [(what, "kept: cannot be understood")] * len(group)

    def _prune_records(self, key: LedgerKey, group: list[Listed], age: float) -> list[Result]:
        group.sort(key=lambda listed: listed.filed[1] if listed.filed else 0)
        # As a task finds them; the last read, which finds nothing, tells that no task has just begun another one.
        generations: list[Entry] = []
        while entry := self.ledger.read(key, len(generations) + 1):
            generations.append(entry)
        if [entry.etag for entry in generations] != [listed.etag for listed in group]:
            return [("record", _CHANGED)] * len(group)
        states = [entry.record.state for entry in generations]
        return self._delete(group, states, reason_to_keep(age, self.older_than, states))

    def _states_in(self, document: Listed) -> Iterator[str]:
        """Yield the states of the records of the tasks that a document waits for."""
        for task in tasks_in(self.s3, f"s3://{self.ledger.bucket}/{document.name}"):
            entry = self.ledger.read(LedgerKey(task.scope, task.index, task.fingerprint), task.generation)
            if entry is not None:
                yield entry.record.state

    def _delete(self, group: Sequence[Listed], names: Sequence[str], reason: str) -> list[Result]:
        """Delete objects from the last one on, unless there is a reason not to."""
        done = "would be deleted" if self.is_dry_run else "deleted"
        results = []
        # Killed in the middle, this leaves the generations from 1 on, from which a task goes on. Without the first, it
        # would begin again, and pay for what it does not see.
        for listed, name in zip(reversed(group), reversed(names), strict=True):
            if not reason and not self.is_dry_run and not self.ledger.delete(listed):
                reason = _CHANGED
            results.append((name, reason or done))
        return results


def _owner(listed: Listed) -> LedgerKey | str:
    return listed.filed[0] if listed.filed else listed.name
