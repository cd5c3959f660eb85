"""OpenAI: one call that answers with the images, or streams them; no tasks, no lookup.

Source: https://platform.openai.com/docs/api-reference/images and its streaming events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import httpx

from airflow_provider_imagegen.catalog import models as catalog
from airflow_provider_imagegen.gateways.base import Capabilities, Gateway
from airflow_provider_imagegen.gateways.responses import id_or_none, read_document, read_outputs, read_success
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest, ImageTask


class OpenAIGateway(Gateway):
    """The synchronous image API of OpenAI, and of the many gateways that copy it."""

    name = "openai"
    hosts: ClassVar[tuple[str, ...]] = ("api.openai.com",)
    capabilities = Capabilities(streaming=True, edit_urls=True, edit_files=True)
    # A 4K image takes up to eight minutes, and the connection is silent meanwhile.
    timeout = 600.0
    default_submit_path = "/v1/images/generations"
    default_edit_path = "/v1/images/edits"

    def images_per_call(self, request: ImageRequest) -> int:
        """Return how many images one call makes at most."""
        # A stream has one completed event, whatever n was.
        return 1 if request.stream else catalog.images_per_call(request.model)

    def submit(self, request: ImageRequest, trace_id: str) -> httpx.Request:
        """Build the paid call."""
        return self._traced(self.request(self.submit_url, self._body(request)), trace_id)

    def edit(self, request: EditRequest, trace_id: str) -> httpx.Request:
        """Build the paid call to edit images: JSON for addresses, multipart for bytes."""
        body = self._body(request)
        if all(source.url for source in request.sources):
            body["images"] = [{"image_url": image.url} for image in request.images]
            if request.mask is not None:
                body["mask"] = {"image_url": request.mask.url}
            return self._traced(self.request(self.edit_url, body), trace_id)
        field = "image" if len(request.images) == 1 else "image[]"
        return self._traced(self.multipart(self.edit_url, body, request, images_field=field), trace_id)

    @staticmethod
    def _body(request: ImageRequest) -> dict[str, Any]:
        return {**request.parameters(), **request.extra}

    @staticmethod
    def _traced(request: httpx.Request, trace_id: str) -> httpx.Request:
        # Shows up in the vendor's request logs; nothing can be looked up or deduplicated by it.
        request.headers["x-client-request-id"] = trace_id
        return request

    def read_submitted(self, response: httpx.Response) -> ImageTask:
        """Read the images."""
        document = read_document(response)
        task = read_success(document) if response.is_success and document is not None else None
        if task is None:
            raise self._fault_of_submit(response, document)
        return task

    def _fault_of_submit(self, response: httpx.Response, document: dict[str, Any] | None) -> Exception:
        error = self.fault(response, "submit")
        if response.is_success and document and document.get("task_id"):
            error.advice = (
                f"It answered with task id {id_or_none(document['task_id'])}: this is no {self.name} gateway. Set the "
                "connection's extra gateway to acedatacloud; the task goes on and may be billed."
            )
        return error

    def read_events(self, events: Sequence[Mapping[str, Any]]) -> ImageTask | None:
        """Read ``image_generation.*`` and ``image_edit.*`` events, as OpenAI sends them and as its copies do."""
        previews: list[Mapping[str, Any]] = []
        for event in events:
            kind = str(event.get("type") or "")
            end = kind.rpartition(".")[2]
            if end in {"error", "failed"} or event.get("error"):
                text = json.dumps({"error": event.get("error") or dict(event)})
                raise self.fault(httpx.Response(200, text=text), "submit")
            # A preview, however final it looks.
            if end == "partial_image":
                previews.append(event)
            elif task := _read_completed(event, end):
                return task.model_copy(update={"previews": read_outputs(previews)})
        return None

    def probe(self) -> httpx.Request:
        """Build a call for the list of models: free, and refused unless the token is right."""
        return httpx.Request("GET", self.url("/v1/models"), headers=self.headers())


def _read_completed(event: Mapping[str, Any], end: str) -> ImageTask | None:
    """Read an event that holds whole images: ``.completed``, or the response itself sent as one event."""
    data = event.get("data")
    if isinstance(data, list) and end in {"completed", ""}:
        return read_success(event)
    if end == "completed":
        return read_success({**event, "data": [dict(event)], "created": event.get("created_at")})
    return None
