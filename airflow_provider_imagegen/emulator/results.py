"""Serves the pictures at their signed URLs, to whoever holds the URL: no token is asked."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from airflow_provider_imagegen.emulator.books import Task
from airflow_provider_imagegen.emulator.calls import Route
from airflow_provider_imagegen.emulator.faults import Concern, FaultKind, Phase
from airflow_provider_imagegen.emulator.misbehaviour import spoil
from airflow_provider_imagegen.emulator.painter import Picture
from airflow_provider_imagegen.emulator.studio import Studio
from airflow_provider_imagegen.emulator.tickets import PREVIEW, Verdict, split_name

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
        picture = self._picture(task, part) if task else None
        if task is None or picture is None:
            return storage_error(404, "NoSuchKey")
        verdict = self._studio.tickets.check(name, request.query_params, task, self._studio.clock())
        if verdict is not Verdict.GOOD:
            return storage_error(403, "AccessDenied" if verdict is Verdict.EXPIRED else "SignatureDoesNotMatch")
        return await self._deliver(task, picture)

    async def _deliver(self, task: Task, picture: Picture) -> Response:
        """Send a picture, unless a fault strikes."""
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
        image = await self._studio.gallery.show(picture)
        answer = Response(image, media_type=picture.content_type)
        return spoil(fault, answer) if fault else answer

    def _picture(self, task: Task, part: str) -> Picture | None:
        if part == PREVIEW and task.pictures:
            return _draft(task.pictures[0])
        finished = task.finished(self._studio.clock())
        if part.isdecimal() and int(part) < len(task.pictures) and finished:
            return task.pictures[int(part)]
        return None


def _draft(picture: Picture) -> Picture:
    """Return the small, blurred forerunner of a picture."""
    share = min(1.0, PREVIEW_EDGE / max(picture.width, picture.height))
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    return replace(picture, size=size, draft=3.0, weight=None)


def storage_error(status: int, code: str, headers: dict[str, str] | None = None) -> Response:
    """Answer as object stores do: a short XML page."""
    page = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return Response(page, status, headers, media_type="application/xml")
