"""What a task that fails leaves in XCom, because it returns nothing. Cheap to import at DAG parse."""

from __future__ import annotations

import logging
from typing import Any

from airflow_provider_imagegen.exceptions import ImageGenError

log = logging.getLogger(__name__)


def push_failure(ti: Any, error: ImageGenError, model: str | None) -> None:
    """Push the XCom ``failure``: what has landed in spite of an error, or else what the error says."""
    from airflow.providers.common.compat.sdk import redact

    from airflow_provider_imagegen.schemas import FAILURE, Failure

    value = (error.result or Failure.because_of(error, model)).model_dump(mode="json")
    for failure in value["failures"]:
        # Airflow masks what is logged, not what is pushed; words of code that is not ours may hold anything.
        failure["message"] = redact(failure["message"])
    try:
        ti.xcom_push(key=FAILURE, value=value)
    except Exception as fault:  # noqa: BLE001 - whatever Airflow's API says, the task fails for its own reason
        log.warning("The failure could not be noted in XCom: %s", fault)


def without_traceback(error: ImageGenError) -> ImageGenError:
    """Return a copy of an error, to be raised instead: thirty frames of retries and event loops would hide its text.

    :param error: The error; at level DEBUG, the log shows where it was raised.
    """
    log.debug("%s was raised here:", error.kind, exc_info=error)
    # Not by copy(), which calls the constructor: errors of other distributions may have another one.
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    return fresh
