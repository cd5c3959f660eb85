"""Task lookups of Ace Data Cloud, single and bulk.

The path that thousands of waiting tasks take every few seconds, so nothing here validates more than it must.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from airflow_provider_imagegen.emulator.books import Task
from airflow_provider_imagegen.emulator.calls import Call, Refusal, json_answer, text_of, texts_of
from airflow_provider_imagegen.emulator.dialects.ace_records import record
from airflow_provider_imagegen.emulator.studio import Studio

PAGE = 12
"""Records that a bulk lookup returns by default."""

MOST_PER_PAGE = 1_000


class Lookups:
    """Answers the tasks path of one service.

    :param dialect: whose tasks are found here; those of other services are not
    """

    def __init__(self, studio: Studio, dialect: str) -> None:
        self._studio = studio
        self._dialect = dialect

    async def answer(self, call: Call) -> Response:
        """Look up one task or many; what is not there is not an error."""
        action = call.body.get("action", "retrieve")
        if action == "retrieve":
            return self._retrieve(call)
        if action == "retrieve_batch":
            return self._retrieve_batch(call)
        raise Refusal("bad_request", "action is retrieve or retrieve_batch", param="action")

    def _retrieve(self, call: Call) -> Response:
        books = self._studio.books
        books.counts["lookups"] += 1
        # With both, the trace id wins; two tasks under one trace id: the newest is shown.
        found = books.by_trace(call.trace_id) if call.trace_id else [books.by_id(text_of(call.body, "id"))]
        ours = (task for task in found if task and task.dialect == self._dialect)
        task = next(ours, None)
        return json_answer(self._record(task, call.origin) if task else {})

    def _retrieve_batch(self, call: Call) -> Response:
        ids, traces = texts_of(call.body, "ids"), texts_of(call.body, "trace_ids")
        offset = _whole(call.body, "offset", 0)
        limit = min(_whole(call.body, "limit", PAGE), MOST_PER_PAGE)
        self._studio.books.counts["lookups"] += len(ids) + len(traces)
        earliest = _number(call.body, "created_at_min", float("-inf"))
        latest = _number(call.body, "created_at_max", float("inf"))
        found = [
            task
            for task in self._studio.books.page(ids, traces)
            if task.dialect == self._dialect and earliest <= task.created_at <= latest
        ]
        origin = call.origin
        items = [self._record(task, origin) for task in found[offset : offset + limit]]
        return json_answer({"items": items, "count": len(found)})

    def _record(self, task: Task, origin: str) -> dict[str, Any]:
        return record(task, self._studio.tickets, origin, self._studio.clock())


def _whole(body: dict[str, Any], name: str, default: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or value < 0:
        raise Refusal("bad_request", f"{name} is a whole number, at least 0", param=name)
    return value


def _number(body: dict[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    return value if isinstance(value, int | float) else default
