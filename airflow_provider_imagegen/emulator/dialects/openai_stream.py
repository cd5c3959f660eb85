"""OpenAI's stream of server-sent events: partial images, sharper each time, then the finished one."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from airflow_provider_imagegen.emulator.books import Task
from airflow_provider_imagegen.emulator.dialects.openai_terms import terms, usage
from airflow_provider_imagegen.emulator.painter import Drawing
from airflow_provider_imagegen.emulator.studio import Studio

BLUR_PER_STEP = 1.5


class EventStream:
    """The events of one task.

    :param body: the request, with its types
    """

    def __init__(self, studio: Studio, task: Task, body: dict[str, Any]) -> None:
        self._studio = studio
        self._task = task
        self._body = body
        self._prefix = "image_edit" if task.route == "edit" else "image_generation"

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the events as the drawing proceeds."""
        partials = self._body.get("partial_images", 0)
        for index in range(partials if self._task.drawings else 0):
            await self._until((index + 1) / (partials + 1))
            draft = replace(self._task.drawings[0], draft=BLUR_PER_STEP * (partials - index))
            yield await self._event("partial_image", draft, {"partial_image_index": index})
        await self._studio.until_ready(self._task)
        for drawing in self._task.drawings:
            yield await self._event("completed", drawing, {"usage": usage(self._task, self._body)})

    async def _until(self, progress: float) -> None:
        """Wait until a part of the task's time has passed."""
        task = self._task
        if task.held:
            return
        await self._studio.until(task.created_at + (task.ready_at - task.created_at) * progress)

    async def _event(self, name: str, drawing: Drawing, details: dict[str, Any]) -> bytes:
        kind = f"{self._prefix}.{name}"
        image = await self._studio.gallery.show(drawing)
        data = {
            "type": kind,
            "b64_json": base64.b64encode(image).decode("ascii"),
            "created_at": int(self._task.created_at),
            **terms(self._task, self._body),
            **details,
        }
        return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
