"""Ace Data Cloud: submit with ``async: true``, get a task id, look it up until it is done.

Source: https://docs.acedata.cloud, pages *OpenAI Images Generations* and *OpenAI Tasks*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import httpx

from airflow_provider_imagegen.gateways.base import Capabilities, Gateway, Handle
from airflow_provider_imagegen.gateways.responses import id_or_none, read_document, read_error, read_success
from airflow_provider_imagegen.redaction import redacted
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest, ImageTask, TaskFailure, TaskState

_NO_SUCH_TASK = "00000000-0000-0000-0000-000000000000"


class AceDataCloudGateway(Gateway):
    """The asynchronous task protocol of Ace Data Cloud, and of resellers that serve it elsewhere."""

    name = "acedatacloud"
    hosts: ClassVar[tuple[str, ...]] = ("api.acedata.cloud",)
    capabilities = Capabilities(
        tasks=True, ids_per_look_up=100, look_up_by_trace_id=True, callbacks=True, edit_urls=True, edit_files=True
    )
    default_submit_path = "/openai/images/generations"
    default_edit_path = "/openai/images/edits"
    default_tasks_path = "/openai/tasks"

    def images_per_call(self, request: ImageRequest) -> int:
        """Return how many images one call makes at most."""
        # The vendor's pages contradict each other; asked for several, most families silently make one image.
        return 10 if request.model == "dall-e-2" else 1

    def submit(self, request: ImageRequest, trace_id: str) -> httpx.Request:
        """Build the paid call, asking for a task id instead of a held connection unless asked otherwise."""
        return self.request(self.submit_url, self._body(request, trace_id))

    def edit(self, request: EditRequest, trace_id: str) -> httpx.Request:
        """Build the paid call to edit images: JSON for addresses, multipart for bytes."""
        body = self._body(request, trace_id)
        if all(source.url for source in request.sources):
            addresses = [image.url for image in request.images]
            body["image"] = addresses[0] if len(addresses) == 1 else addresses
            if request.mask is not None:
                body["mask"] = request.mask.url
            return self.request(self.edit_url, body)
        return self.multipart(self.edit_url, body, request, images_field="image")

    def _body(self, request: ImageRequest, trace_id: str) -> dict[str, Any]:
        # A task id outlives a broken connection; a response that is waited for does not.
        asynchronous = request.async_ is not False
        # Last, so that nothing in extra replaces the id by which a lost request is found again.
        return {**request.parameters(), **request.extra, "async": asynchronous, "trace_id": trace_id}

    def read_submitted(self, response: httpx.Response) -> ImageTask:
        """Read the task id; a synchronous response, which may carry one too, counts as finished."""
        document = read_document(response)
        if not response.is_success or document is None:
            raise self.fault(response, "submit")
        if finished := read_success(document):
            return finished
        if task_id := id_or_none(document.get("task_id")):
            return ImageTask(state="running", task_id=task_id, trace_id=id_or_none(document.get("trace_id")))
        raise self.fault(response, "submit")

    def look_up(self, keys: Sequence[str], by: Handle = "id") -> httpx.Request:
        """Build one lookup for one or many tasks."""
        # The response pages at 12 unless asked otherwise.
        body = {"action": "retrieve_batch", f"{by}s": list(keys), "limit": len(keys)}
        return self.request(self.url(self.settings.tasks_path or self.default_tasks_path), body)

    def read_looked_up(self, response: httpx.Response, keys: Sequence[str], by: Handle = "id") -> dict[str, ImageTask]:
        """Read records by key, whatever their order; a key that is absent is not visible (yet)."""
        document = read_document(response)
        if not response.is_success or document is None:
            raise self.fault(response, "look_up")
        records = document.get("items", None if by == "trace_id" else [document] if document else [])
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise self.fault(response, "look_up")
        # A lookup for one id may bring the bare record, which need not name it.
        only_key = keys[0] if len(keys) == 1 and by == "id" else None
        # A trace id that was sent twice has two tasks: one that failed must not hide the one that is billed.
        if by == "trace_id":
            records = sorted(records, key=lambda record: self._read_record(record, {}).state != "failed")
        found = {id_or_none(record.get(by)) or only_key: record for record in records}
        # Absence lets a request be sent again, so a response that counts more than it shows must not prove it.
        if by == "trace_id" and (document["items"] or document.get("count")) and found.keys().isdisjoint(keys):
            raise self.fault(response, "look_up")
        return {key: self._read_key(key, by, found.get(key)) for key in keys}

    def _read_key(self, key: str, by: Handle, record: dict[str, Any] | None) -> ImageTask:
        handle = {"task_id": key} if by == "id" else {"trace_id": key}
        if record is None:
            return ImageTask(state="unseen", **handle)
        handle_fields = {"task_id": id_or_none(record.get("id")), "trace_id": id_or_none(record.get("trace_id"))}
        return self._read_record(record, {**handle_fields, **handle})

    def _read_record(self, record: dict[str, Any], handle: dict[str, str | None]) -> ImageTask:
        """Derive the state of a task; its record has no status field."""
        body = record.get("response")
        body = body if isinstance(body, dict) else {}
        finished = record.get("finished_at") is not None
        # The image in a pending record may be a preview. Only old records, without this key, are finished without it.
        if body and (finished or "finished_at" not in record):
            task = read_success(body)
            if task is not None:
                return task.model_copy(update=handle)
        failure = self._read_failure(body, finished)
        state: TaskState = "failed" if failure else "running"
        return ImageTask(state=state, failure=failure, **handle)

    def _read_failure(self, body: dict[str, Any], finished: bool) -> TaskFailure | None:
        words = read_error(body)
        gave_up = body.get("success") is False and words is not None and words.code is not None
        if not finished and not gave_up:
            return None
        if words is None:
            return TaskFailure(code="no_image", message="the task finished without an image")
        message = redacted(words.message, [self.settings.token])
        return TaskFailure(code=words.code or "unspecified", message=message)

    def probe(self) -> httpx.Request:
        """Build a lookup of a task that cannot exist: free, and refused unless the token is right."""
        return self.look_up([_NO_SUCH_TASK])
