"""When to defer, and the margins that make deferring safe; shared by operators, cheap to import."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

if TYPE_CHECKING:
    from airflow_provider_imagegen.schemas import Submission

log = logging.getLogger(__name__)

DEFAULT_MINIMUM_DEFERRAL = 7.0
"""Seconds; the scheduler's loop takes less on most deployments."""
SAFETY_NET = timedelta(minutes=10)
"""How long after the deadline Airflow itself may end the deferral, should the trigger not."""


def minimum_deferral() -> float:
    """Return how many seconds a trigger waits at least: ``[imagegen] minimum_deferral``.

    The scheduler fails a task that returns from its deferral before the scheduler has handled the end of its worker
    process: https://github.com/apache/airflow/issues/71580. How long that takes depends on the scheduler's load.
    """
    return max(0.0, float(conf.getfloat("imagegen", "minimum_deferral", fallback=DEFAULT_MINIMUM_DEFERRAL)))


def stop_grace() -> float:
    """Return how many seconds a task goes on after SIGTERM with what it has sent: ``[imagegen] stop_grace``.

    At least five: what was claimed and not sent must be noted, or a retry takes it for sent.
    """
    from airflow_provider_imagegen.engine.stop import STOP_GRACE

    return max(5.0, float(conf.getfloat("imagegen", "stop_grace", fallback=STOP_GRACE)))


def deferrable_by_default() -> bool:
    """Return whether to defer where a DAG does not say: yes, unless the environment says no.

    ``airflow db migrate`` writes ``[operators] default_deferrable = false`` into every new ``airflow.cfg``,
    so a false there is nobody's choice; ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` is somebody's.
    """
    # Of all the ways to ask whence an option comes, this one is quick enough for every DAG file that is parsed.
    is_chosen = os.environ.get("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "").strip() != ""
    return not is_chosen or bool(conf.getboolean("operators", "default_deferrable"))


def log_deferral(submission: Submission, gateway: str, left: float) -> None:
    """Say what is waited for, with the seconds that are left until the deadline."""
    if submission.slot:
        log.info(
            "Deferred, %s: %s has no free slot or cannot be reached (refused %d time(s)), deadline in %.0f s. To have "
            "Airflow itself limit such tasks, see 'Limit requests at a gateway' in the docs.",
            "partly submitted" if submission.has_accepted else "unsubmitted",
            gateway,
            submission.slot.refusals,
            left,
        )
    else:
        rest = f", more to submit when {submission.left_open} are left" if submission.left_open else ""
        log.info("Deferred: %d task(s) still running%s, deadline in %.0f s", len(submission.open), rest, left)
