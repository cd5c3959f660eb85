"""One lookup for many waiters, and the id at fault when it fails: one bad id must not cost the others theirs."""

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

EXTRA_LOOKUPS = 32
"""Lookups that the search for bad ids may add to one, at most; two among a hundred take 26."""
_REFUSED = frozenset({400, 404, 413, 414, 422})

_Failure = tuple[Sequence[str], Exception]
"""Ids whose lookup failed as a whole, and why."""


@dataclass(frozen=True)
class LookupResults:
    """Results of a lookup, id by id.

    :param faults: Why the others could not be looked up.
    """

    tasks: dict[str, ImageTask] = field(default_factory=dict)
    faults: dict[str, Exception] = field(default_factory=dict)


async def look_up(client: ImageClient, task_ids: Sequence[str], *, suspicious: bool) -> LookupResults:
    """Look up tasks; if that fails and one id may be the reason, halve them until it is found.

    :param task_ids: At most as many as the gateway takes at once.
    :param suspicious: Whether they failed before: then even a server error may be due to one of them.
    :return: A task or a fault for every id; nothing about ids that the response leaves out.
    """
    results = LookupResults()
    failures = await _failures(client, [task_ids], results)
    left = EXTRA_LOOKUPS
    while failures:
        ids, error = failures.pop()
        if len(ids) == 1 or not _may_be_one_ids(error, suspicious):
            results.faults.update(dict.fromkeys(ids, error))
        elif left < 2:
            # Not the error itself: it would end the waits of all, and only one id, nobody knows which, deserves it.
            results.faults.update(dict.fromkeys(ids, _passing(error)))
        else:
            left -= 2
            middle = len(ids) // 2
            failed = await _failures(client, [ids[:middle], ids[middle:]], results)
            if len(failed) == 2 and not (results.tasks or _is_refusal(error)):
                # Nothing works: it is the gateway, not one of them, and more lookups would only add to its load.
                results.faults.update({task_id: fault for half, fault in failed for task_id in half})
            else:
                failures += failed
    return results


async def _failures(client: ImageClient, groups: Iterable[Sequence[str]], results: LookupResults) -> list[_Failure]:
    """Look up groups of ids, add the tasks shown to the results, and return the groups that failed."""
    failures: list[_Failure] = []
    # One after the other: a gateway that has just failed is not asked twice at once.
    for task_ids in groups:
        try:
            results.tasks.update(await client.look_up(task_ids))
        except Exception as error:  # noqa: BLE001 - a third party's gateway may raise anything; its waiter gets it
            failures.append((task_ids, error))
    return failures


def _may_be_one_ids(error: Exception, suspicious: bool) -> bool:
    if isinstance(error, LookUpFailed):
        return suspicious or _is_refusal(error) or isinstance(error, UnreadableResponse)
    if isinstance(error, AuthenticationError):
        # 401 is about the token and hence about all; 403 may be about one task of another account.
        return error.status == 403
    return isinstance(error, RequestRefused) or not isinstance(error, ImageGenError)


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, RequestRefused) or (isinstance(error, LookUpFailed) and error.status in _REFUSED)


def _passing(error: Exception) -> LookUpFailed:
    status = error.status if isinstance(error, GatewayError) else None
    gateway = error.gateway if isinstance(error, GatewayError) else None
    return LookUpFailed(f"a lookup for many tasks failed: {error}", gateway=gateway, status=status)
