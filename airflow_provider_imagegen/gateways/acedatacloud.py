"""Ace Data Cloud: submit with ``async: true``, get a task id, look it up until it is done.

Source: https://docs.acedata.cloud, pages *OpenAI Images Generations* and *OpenAI Tasks*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from airflow_provider_imagegen.gateways.answers import (
    error_of,
    read_document,
    read_error,
    read_outputs,
    text_or_none,
    unreadable,
)
from airflow_provider_imagegen.gateways.base import Abilities, Gateway
from airflow_provider_imagegen.redaction import redacted
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask, TaskFailure

_NO_SUCH_TASK = "00000000-0000-0000-0000-000000000000"


class AceDataCloudGateway(Gateway):
    """The asynchronous task protocol of Ace Data Cloud, and of resellers that serve it elsewhere."""

    name = "acedatacloud"
    hosts = ("api.acedata.cloud",)
    abilities = Abilities(tasks=True, ids_per_look_up=100, look_up_by_trace_id=True)
    default_submit_path = "/openai/images/generations"
    default_tasks_path = "/openai/tasks"

    def images_per_call(self, model: str | None) -> int:
        """Only dall-e-2 is known to honour ``n``; other families silently make one image."""
        return 10 if model == "dall-e-2" else 1

    def submit(self, request: ImageRequest, trace_id: str) -> httpx.Request:
        """Build the paid call, asking for a task id instead of a held connection."""
        body = {**request.parameters(), **request.extra, "async": True, "trace_id": trace_id}
        return self.request(self.submit_url, body)

    def read_submitted(self, response: httpx.Response) -> ImageTask:
        """Read the task id; a synchronous answer, which may carry one too, counts as finished."""
        document = read_document(response) if response.is_success else None
        if document is None:
            if response.is_success:
                raise unreadable(response, self.name, "submit", self.settings.token)
            raise error_of(response, self.name, "submit", self.settings.token)
        task_id = text_or_none(document.get("task_id"))
        trace_id = text_or_none(document.get("trace_id"))
        outputs = read_outputs(document.get("data"))
        if outputs:
            usage = document.get("usage")
            return ImageTask(
                state="succeeded",
                task_id=task_id,
                trace_id=trace_id,
                outputs=outputs,
                usage=usage if isinstance(usage, dict) else None,
            )
        if task_id:
            return ImageTask(state="running", task_id=task_id, trace_id=trace_id)
        if read_error(document):
            raise error_of(response, self.name, "submit", self.settings.token)
        raise unreadable(response, self.name, "submit", self.settings.token)

    def look_up(self, task_ids: Sequence[str]) -> httpx.Request:
        """Build one look-up for one or many tasks."""
        if len(task_ids) == 1:
            return self._look_up({"action": "retrieve", "id": task_ids[0]})
        # The answer pages at 12 unless told otherwise.
        return self._look_up({"action": "retrieve_batch", "ids": list(task_ids), "limit": len(task_ids)})

    def _look_up(self, body: dict[str, Any]) -> httpx.Request:
        path = self.settings.tasks_path or self.default_tasks_path
        return self.request(f"{self.settings.base_url}{path}", body)

    def read_looked_up(self, response: httpx.Response, task_ids: Sequence[str]) -> dict[str, ImageTask]:
        """Read records by id, whatever their order; an id that is absent is not visible (yet)."""
        if not response.is_success:
            raise error_of(response, self.name, "look_up", self.settings.token)
        document = read_document(response)
        if document is None:
            raise unreadable(response, self.name, "look_up", self.settings.token)
        records = document.get("items", [document] if document else [])
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise unreadable(response, self.name, "look_up", self.settings.token)
        only_id = task_ids[0] if len(task_ids) == 1 else None
        found = {text_or_none(record.get("id")) or only_id: record for record in records}
        return {
            task_id: self._read_record(task_id, found[task_id])
            if task_id in found
            else ImageTask(state="unseen", task_id=task_id)
            for task_id in task_ids
        }

    def _read_record(self, task_id: str, record: dict[str, Any]) -> ImageTask:
        """Derive the state of a task; its record has no status field.

        An image counts only once ``finished_at`` is set (a pending record may carry a preview), or in
        records old enough to have no such key.
        """
        answer = record.get("response")
        answer = answer if isinstance(answer, dict) else {}
        trace_id = text_or_none(record.get("trace_id")) or text_or_none(answer.get("trace_id"))
        finished = record.get("finished_at") is not None
        outputs = read_outputs(answer.get("data"))
        if outputs and (finished or "finished_at" not in record):
            usage = answer.get("usage")
            return ImageTask(
                state="succeeded",
                task_id=task_id,
                trace_id=trace_id,
                outputs=outputs,
                usage=usage if isinstance(usage, dict) else None,
            )
        failure = self._read_failure(answer, finished)
        state = "failed" if failure else "running"
        return ImageTask(state=state, task_id=task_id, trace_id=trace_id, failure=failure)

    def _read_failure(self, answer: dict[str, Any], finished: bool) -> TaskFailure | None:
        words = read_error(answer)
        gave_up = answer.get("success") is False and words is not None and words.code is not None
        if not finished and not gave_up:
            return None
        if words is None:
            return TaskFailure(code="no_image", message="the task finished without an image")
        message = redacted(words.message, [self.settings.token])
        return TaskFailure(code=words.code or "unspecified", message=message)

    def probe(self) -> httpx.Request:
        """Build a look-up of a task that cannot exist: free, and refused unless the token is right."""
        return self.look_up([_NO_SUCH_TASK])
