"""Serves the images at their signed URLs, to whoever holds the URL: no token is asked."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from airflow_provider_imagegen.emulator.books import Task
from airflow_provider_imagegen.emulator.calls import Route
from airflow_provider_imagegen.emulator.faults import Concern, FaultKind, Phase
from airflow_provider_imagegen.emulator.misbehaviour import spoil
from airflow_provider_imagegen.emulator.painter import Drawing
from airflow_provider_imagegen.emulator.studio import Studio
from airflow_provider_imagegen.emulator.tickets import PREVIEW, TicketState, split_name

PREVIEW_EDGE = 512


class Results:
    """Answers ``GET /results/{name}``."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def serve(self, request: Request) -> Response:
        """Answer one download."""
        name = request.path_params["name"]
        task_id, part = split_name(name)
        task = self._studio.books.tasks.get(task_id)
        drawing = self._image(task, part) if task else None
        if task is None or drawing is None:
            return storage_error(404, "NoSuchKey")
        state = self._studio.tickets.check(name, request.query_params, task, self._studio.clock())
        if state is not TicketState.GOOD:
            return storage_error(403, "AccessDenied" if state is TicketState.EXPIRED else "SignatureDoesNotMatch")
        return await self._deliver(task, drawing)

    async def _deliver(self, task: Task, drawing: Drawing) -> Response:
        """Send an image, unless a fault strikes."""
        books, faults = self._studio.books, self._studio.faults
        concern = Concern((task.prompt,), (task.id,))
        fault = faults.take(Phase.REFUSAL, Route.RESULT, concern) or faults.take(Phase.ANSWER, Route.RESULT, concern)
        books.counts["faults"] += fault is not None
        if fault and fault.kind in (FaultKind.REFUSE, FaultKind.ERROR, FaultKind.EXPIRE):
            if fault.kind is FaultKind.EXPIRE:
                task.stale_version = task.link_version + 1
            return storage_error(fault.status or 403, fault.code or "AccessDenied", fault.headers())
        books.counts["downloads"] += 1
        task.downloads += 1
        image = await self._studio.gallery.show(drawing)
        answer = Response(image, media_type=drawing.content_type)
        return spoil(fault, answer) if fault else answer

    def _image(self, task: Task, part: str) -> Drawing | None:
        if part == PREVIEW and task.drawings:
            return _draft(task.drawings[0])
        finished = task.finished(self._studio.clock())
        if part.isdecimal() and int(part) < len(task.drawings) and finished:
            return task.drawings[int(part)]
        return None


def _draft(drawing: Drawing) -> Drawing:
    """Return the small, blurred forerunner of an image."""
    share = min(1.0, PREVIEW_EDGE / max(drawing.width, drawing.height))
    size = (max(1, round(drawing.width * share)), max(1, round(drawing.height * share)))
    return replace(drawing, size=size, draft=3.0, weight=None)


def storage_error(status: int, code: str, headers: dict[str, str] | None = None) -> Response:
    """Answer as object stores do: a short XML page."""
    page = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return Response(page, status, headers, media_type="application/xml")
