"""Faults that change what becomes of an accepted task."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from airflow_provider_imagegen.emulator.books import Failure, Task
from airflow_provider_imagegen.emulator.faults import Fault, FaultKind


def strike(task: Task, fault: Fault) -> None:
    """Change a task, just made, as a fault of the outcome phase says."""
    _EFFECTS[fault.kind](task, fault)


def _slow(task: Task, fault: Fault) -> None:
    task.ready_at += fault.seconds or 0.0


def _hold(task: Task, _: Fault) -> None:
    task.ready_at = math.inf


def _invisible(task: Task, fault: Fault) -> None:
    until = task.created_at + fault.seconds if fault.seconds is not None else float("inf")
    if fault.by in ("id", "both"):
        task.visible_at = until
    if fault.by in ("trace_id", "both"):
        task.traceable_at = until


def _preview(task: Task, _: Fault) -> None:
    task.preview = True


def _hiccup(task: Task, _: Fault) -> None:
    task.hiccup = True


def _fail(task: Task, fault: Fault) -> None:
    task.failure = Failure(fault.code or "api_error", fault.message)


def _moderation(task: Task, fault: Fault) -> None:
    task.failure = Failure(fault.code or "moderation_blocked", fault.message)


def _fewer(task: Task, fault: Fault) -> None:
    task.drawings = task.drawings[: fault.images]


def _other_size(task: Task, _: Fault) -> None:
    """A tenth larger and then some: what gateways return when a model has its own idea of the pixels."""
    task.drawings = tuple(
        replace(drawing, size=(round(drawing.width * 1.225), round(drawing.height * 1.225)))
        for drawing in task.drawings
    )


def _old_style(task: Task, _: Fault) -> None:
    task.old_style = True


_EFFECTS: dict[FaultKind, Callable[[Task, Fault], None]] = {
    FaultKind.SLOW: _slow,
    FaultKind.HOLD: _hold,
    FaultKind.INVISIBLE: _invisible,
    FaultKind.PREVIEW: _preview,
    FaultKind.HICCUP: _hiccup,
    FaultKind.FAIL: _fail,
    FaultKind.MODERATION: _moderation,
    FaultKind.FEWER: _fewer,
    FaultKind.OTHER_SIZE: _other_size,
    FaultKind.OLD_STYLE: _old_style,
}
