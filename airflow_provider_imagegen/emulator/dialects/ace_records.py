"""The task record of Ace Data Cloud: what a lookup shows of a task at a moment. It has no status field."""

from __future__ import annotations

import hashlib
from typing import Any

from airflow_provider_imagegen.emulator.books import Task
from airflow_provider_imagegen.emulator.models import is_nano_banana
from airflow_provider_imagegen.emulator.tickets import PREVIEW, Tickets, refresh_links

OWNER = {
    "application_id": "0b6a1d8e-5a51-4a53-9d2c-6a4f0c6d1f10",
    "credential_id": "3f1b7c52-7a0e-4b44-8f0e-0d7a5f1f2c11",
    "user_id": "a2b0e5f7-1c83-4d5a-9a41-7e3f5b9d6c12",
}
WORDS_FOR_TYPE = ("images", "images_generations", "openai_images")
PREVIEW_FROM = 0.5
"""Which part of its time a task has run before a preview shows."""

ACCEPTED_FROM = 0.15
"""Until this part of its time, the response is null; then it says that the task was accepted."""


def record(task: Task, tickets: Tickets, origin: str, now: float) -> dict[str, Any]:
    """Return a task's record as a lookup answers it.

    :param origin: scheme and host for result URLs
    """
    refresh_links(task)
    finished = task.finished(now)
    elapsed = round(task.ready_at - task.created_at, 3) if finished else None
    shown: dict[str, Any] = {
        "id": task.id,
        "type": WORDS_FOR_TYPE[hashlib.sha256(task.id.encode()).digest()[0] % len(WORDS_FOR_TYPE)],
        **OWNER,
        "trace_id": task.trace_id,
        "request": task.request,
        "response": outcome(task, tickets, origin, now) if finished else _pending(task, tickets, origin, now),
        "created_at": task.created_at,
        "started_at": task.created_at,
    }
    if task.old_style:
        return {**shown, "duration": elapsed}
    return {**shown, "finished_at": task.ready_at if finished else None, "elapsed": elapsed}


def _pending(task: Task, tickets: Tickets, origin: str, now: float) -> dict[str, Any] | None:
    progress = 1.0 if task.held else (now - task.created_at) / (task.ready_at - task.created_at)
    if progress < ACCEPTED_FROM:
        return None
    if task.hiccup:
        return {"success": False, "task_id": task.id, "error": "temporary"}
    accepted = {"success": True, "task_id": task.id}
    # An old-style record has no finished_at that would tell a preview from a result.
    if not task.preview or task.old_style or not task.drawings or progress < PREVIEW_FROM:
        return accepted
    preview = {image_key(task): tickets.url(origin, task, PREVIEW, now)}
    return {**accepted, "trace_id": task.trace_id, "data": [preview]}


def outcome(task: Task, tickets: Tickets, origin: str, now: float) -> dict[str, Any]:
    """Return the response of a finished task: images, or an error."""
    ids = {"task_id": task.id, "trace_id": task.trace_id}
    if task.failure:
        error = {"code": task.failure.code, "message": task.failure.message}
        return {"success": False, **ids, "error": error}
    items = [item(task, number, tickets, origin, now) for number in range(len(task.drawings))]
    if task.dialect == "nano_banana":
        return {"success": True, **ids, "data": items}
    return {"success": True, **ids, "created": created(task), "data": items}


def item(task: Task, number: int, tickets: Tickets, origin: str, now: float) -> dict[str, Any]:
    """Return one result item; the native nano-banana path calls its URL ``image_url``."""
    shown: dict[str, Any] = {image_key(task): tickets.url(origin, task, number, now)}
    if task.dialect == "nano_banana":
        return {"prompt": task.prompt, **shown}
    if task.model == "dall-e-3":
        shown["revised_prompt"] = f"{task.prompt}, in rich detail"
    return shown


def image_key(task: Task) -> str:
    """Return the name of the URL field in this task's items."""
    return "image_url" if task.dialect == "nano_banana" else "url"


def created(task: Task) -> int:
    """Return the response's ``created``, which is 0 for nano-banana."""
    return 0 if is_nano_banana(task.model) else int(task.ready_at)
