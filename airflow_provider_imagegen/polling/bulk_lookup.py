"""One lookup for many waiters, and whose fault it is when it fails: one bad id must not cost the others theirs.

Called by the poller with at most as many ids as the gateway takes at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    GatewayError,
    ImageGenError,
    LookUpFailed,
    RequestRefused,
    UnreadableResponse,
)
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.schemas import ImageTask

EXTRA_LOOK_UPS = 32
"""Lookups that finding bad ids among those of one may cost at most; two among a hundred take 26."""
_REFUSED = frozenset({400, 404, 413, 414, 422})


@dataclass(frozen=True)
class LookupResults:
    """What came of a lookup, id by id.

    :param tasks: What the gateway showed.
    :param faults: Why the others could not be looked up.
    """

    tasks: dict[str, ImageTask] = field(default_factory=dict)
    faults: dict[str, Exception] = field(default_factory=dict)


@dataclass(frozen=True)
class _Failure:
    """A lookup that failed as a whole."""

    task_ids: Sequence[str]
    error: Exception


async def look_up(client: ImageClient, task_ids: Sequence[str], *, suspicious: bool) -> LookupResults:
    """Look up tasks; if that fails and one id may be the reason, halve them until it is found.

    :param client: An opened client.
    :param task_ids: At most as many as the gateway takes at once.
    :param suspicious: Whether they failed before: then even a server error may be due to one of them.
    :return: A task or a fault for every id; nothing about ids that the response leaves out.
    """
    results = LookupResults()
    failures = await _failures(client, [task_ids], results)
    left = EXTRA_LOOK_UPS
    while failures:
        failure = failures.pop()
        if len(failure.task_ids) == 1 or not _may_be_one_ids(failure.error, suspicious):
            results.faults.update(dict.fromkeys(failure.task_ids, failure.error))
        elif left < 2:
            results.faults.update(dict.fromkeys(failure.task_ids, _unsettled(failure.error)))
        else:
            left -= 2
            failed = await _failures(client, _halves(failure.task_ids), results)
            if len(failed) == 2 and not (results.tasks or _is_refusal(failure.error)):
                # Nothing works: it is the gateway, not one of them.
                results.faults.update({task_id: half.error for half in failed for task_id in half.task_ids})
            else:
                failures += failed
    return results


async def _failures(client: ImageClient, groups: Iterable[Sequence[str]], results: LookupResults) -> list[_Failure]:
    """Look up groups of ids one after the other, add what is shown to the responses, and return what failed."""
    failures = []
    for task_ids in groups:
        try:
            results.tasks.update(await client.look_up(task_ids))
        except Exception as error:  # noqa: BLE001 - a third party's gateway may raise anything; its waiter gets it
            failures.append(_Failure(task_ids, error))
    return failures


def _halves(task_ids: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    middle = len(task_ids) // 2
    return task_ids[:middle], task_ids[middle:]


def _may_be_one_ids(error: Exception, suspicious: bool) -> bool:
    if isinstance(error, LookUpFailed):
        return suspicious or _is_refusal(error) or isinstance(error, UnreadableResponse)
    if isinstance(error, AuthenticationError):
        return error.status == 403
    return isinstance(error, RequestRefused) or not isinstance(error, ImageGenError)


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, RequestRefused) or (isinstance(error, LookUpFailed) and error.status in _REFUSED)


def _unsettled(error: Exception) -> LookUpFailed:
    """Return what to tell those of whom one, nobody knows which, is at fault: they are asked for again."""
    status = error.status if isinstance(error, GatewayError) else None
    gateway = error.gateway if isinstance(error, GatewayError) else None
    return LookUpFailed(f"a lookup for many tasks failed: {error}", gateway=gateway, status=status)
