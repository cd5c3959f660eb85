"""Options of a job, and what several jobs of one Airflow task share."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from airflow_provider_imagegen.engine.budget import Budget
from airflow_provider_imagegen.engine.outcome import OnPartial
from airflow_provider_imagegen.engine.recovery import Policy
from airflow_provider_imagegen.engine.stop import StopRequest
from airflow_provider_imagegen.ledger.models import Attempt, LedgerKey
from airflow_provider_imagegen.polling import PollSchedule, TaskPoller

GRACE = 10.0
"""Seconds to wait in the worker before deferring; the shortest jobs never need to."""
SLOT_GRACE = 1.0
"""Seconds for which a worker tries again at a gateway that has no free slot, before it defers."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Options of a job, with its timeout in seconds from the submit.

    :param slot_grace: Seconds for which a worker waits for a slot at the gateway before that is handed to a trigger;
        ``None`` to wait in the worker.
    """

    attempt: Attempt
    policy: Policy = field(default_factory=Policy)
    schedule: PollSchedule = field(default_factory=PollSchedule)
    timeout: float = 1800.0
    on_partial: OnPartial = "fail"
    land_previews: bool = False
    budget: Budget | None = None
    slot_grace: float | None = None
    stop: StopRequest = field(default_factory=StopRequest)


@dataclass(frozen=True, kw_only=True)
class SharedResources:
    """What jobs of one Airflow task share: lookups, their turn before paid calls, keys whose cost another counts."""

    poller: TaskPoller
    turn: AbstractAsyncContextManager[object]
    counted: Collection[LedgerKey] = ()
