"""What a task that is no longer waited for means: success, or which error; a decision, without any I/O."""

from __future__ import annotations

from airflow_provider_imagegen.exceptions import (
    GenerationFailed,
    ImageGenError,
    ModerationBlocked,
    TaskTimeout,
    UnknownTask,
)
from airflow_provider_imagegen.schemas import ImageTask

MODERATION_CODES = frozenset({"moderation_blocked", "content_policy_violation"})
"""Codes by which gateways say that their content policy refused."""


def task_error(task: ImageTask, gateway: str, last_fault: ImageGenError | None = None) -> ImageGenError | None:
    """Return what is wrong with a task at the end of waiting, or ``None`` if it succeeded.

    :param task: What was last seen of it.
    :param gateway: Name of the gateway, for the error.
    :param last_fault: Why the last lookup failed, if it did.
    """
    error = _end_of(task, last_fault)
    if error is not None:
        error.gateway, error.task_id, error.trace_id = gateway, task.task_id, task.trace_id
    return error


def _end_of(task: ImageTask, last_fault: ImageGenError | None) -> ImageGenError | None:
    if task.state == "succeeded":
        return None
    if task.failure is not None:
        # The same prompt is refused every time it is submitted, so that Airflow must not retry it.
        kind = ModerationBlocked if task.failure.code in MODERATION_CODES else GenerationFailed
        return kind(f"the gateway gave up: {task.failure.message}", code=task.failure.code)
    if task.state in {"unseen", "lost"}:
        return UnknownTask("the gateway shows no such task")
    # The gateway may have finished it: the message must not claim that it was still generating.
    if last_fault is not None:
        return TaskTimeout(
            f"the deadline passed and the last lookup failed: {last_fault.message}",
            advice="A retry attaches to the task and looks again.",
        )
    return TaskTimeout("the deadline passed and the gateway was still generating")
