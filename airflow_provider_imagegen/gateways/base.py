"""The protocol every gateway speaks: it builds requests and reads responses, and opens no socket.

The client sends what a gateway builds; sync code, async code and tests share the same gateway.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import httpx

from airflow_provider_imagegen.exceptions import GatewayError, InvalidRequest
from airflow_provider_imagegen.gateways.responses import Phase, error_of, read_document, read_error, unreadable
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest, ImageTask

Handle = Literal["id", "trace_id"]
"""What a task is looked up by: the gateway's id, or a trace id that we chose."""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """Capabilities of a gateway, on which the engine decides; it never asks for the gateway's name.

    :param tasks: A submit returns a task id that can be looked up.
    :param ids_per_look_up: How many tasks one lookup may name.
    :param look_up_by_trace_id: A task can be found by a trace id that we chose.
    :param callbacks: It pushes the result to a ``callback_url``.
    :param streaming: It can answer with server-sent events.
    :param edit_urls: It edits images that it fetches itself.
    :param edit_files: It edits images that are sent along.
    :param cancel: A submitted task can be cancelled.
    """

    tasks: bool = False
    ids_per_look_up: int = 1
    look_up_by_trace_id: bool = False
    callbacks: bool = False
    streaming: bool = False
    edit_urls: bool = False
    edit_files: bool = False
    cancel: bool = False


class Gateway(ABC):
    """One image API.

    :param settings: Where it is and how to speak to it.
    """

    name: ClassVar[str]
    """The registered name."""
    hosts: ClassVar[tuple[str, ...]] = ()
    """Host names by which a connection's base URL is recognised."""
    capabilities: ClassVar[Capabilities] = Capabilities()
    timeout: ClassVar[float] = 60.0
    """Seconds a response may take, unless the connection says otherwise."""
    default_submit_path: ClassVar[str]
    """Path of the call that generates, where the connection names none."""
    default_edit_path: ClassVar[str] = ""
    """Path of the call that edits."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings

    @abstractmethod
    def submit(self, request: ImageRequest, trace_id: str) -> httpx.Request:
        """Build the paid call.

        :param request: What to generate.
        :param trace_id: Our id of the call, sent where the gateway takes one.
        """

    @abstractmethod
    def read_submitted(self, response: httpx.Response) -> ImageTask:
        """Read the response to :meth:`submit` or :meth:`edit`.

        :raises GatewayError: As the response says; a response with neither task nor image is
            :class:`~airflow_provider_imagegen.exceptions.OutcomeUnknown`.
        """

    @abstractmethod
    def probe(self) -> httpx.Request:
        """Build a free call that proves base URL and token."""

    def read_probe(self, response: httpx.Response) -> None:
        """Read the response to :meth:`probe`.

        :raises GatewayError: If the response is not of this API, or the token is not accepted.
        """
        if not response.is_success or read_document(response) is None:
            raise self.fault(response, "look_up")

    def images_per_call(self, request: ImageRequest) -> int:
        """Return how many images one call makes at most; more are asked for in further calls."""
        return 1

    def edit(self, request: EditRequest, trace_id: str) -> httpx.Request:
        """Build the paid call that edits images; only where ``capabilities`` has edits."""
        raise NotImplementedError(f"{self.name} edits no images")

    def look_up(self, keys: Sequence[str], by: Handle = "id") -> httpx.Request:
        """Build the free call that asks for tasks; only where ``capabilities.tasks``.

        :param keys: At most ``capabilities.ids_per_look_up`` ids or trace ids.
        :param by: Which of the two they are.
        """
        raise NotImplementedError(f"{self.name} has no tasks to look up")

    def read_looked_up(self, response: httpx.Response, keys: Sequence[str], by: Handle = "id") -> dict[str, ImageTask]:
        """Read the response to :meth:`look_up`: one task for every key asked for.

        :raises GatewayError: As the response says.
        """
        raise NotImplementedError(f"{self.name} has no tasks to look up")

    def cancel(self, task_id: str) -> httpx.Request:
        """Build the free call that cancels a task; only where ``capabilities.cancel``."""
        raise NotImplementedError(f"{self.name} cannot cancel")

    def read_cancelled(self, response: httpx.Response) -> None:
        """Read the response to :meth:`cancel`.

        :raises GatewayError: If the gateway did not do it, e.g. because the task is done.
        """
        if not response.is_success:
            raise self.fault(response, "look_up")

    def task_page(self, task_id: str) -> str | None:
        """Return the address of the page on which people see a task; ``None`` where the gateway has no such pages.

        :param task_id: The gateway's id.
        """
        return None

    def read_events(self, events: Sequence[Mapping[str, Any]]) -> ImageTask | None:
        """Read the server-sent events of a streamed response; only where ``capabilities.streaming``.

        :param events: The parsed ``data`` of the newest event, after those so far that hold an image. Where a gateway
            names an event in its ``event:`` line only, that name is in ``type``.
        :return: The finished task, or ``None`` if the events do not hold the image.
        :raises GatewayError: If an event reports an error.
        """
        raise NotImplementedError(f"{self.name} does not support streaming")

    def check(self, request: ImageRequest) -> None:
        """Refuse what this gateway is known not to do, before anything is paid.

        :raises InvalidRequest: Naming the parameter.
        """
        able = self.capabilities
        if request.stream and not able.streaming:
            raise InvalidRequest.unsupported("stream", True, self.name)
        if request.partial_images and not request.stream:
            raise InvalidRequest("partial_images", request.partial_images, "0, or stream=True with it")
        if request.callback_url and not able.callbacks:
            raise InvalidRequest.unsupported("callback_url", "(hidden)", self.name)
        if request.async_ and not able.tasks:
            raise InvalidRequest.unsupported("async_", True, self.name)
        if isinstance(request, EditRequest):
            self._check_sources(request)

    def _check_sources(self, request: EditRequest) -> None:
        able = self.capabilities
        if not able.edit_urls and not able.edit_files:
            raise InvalidRequest("images", "(hidden)", f"nothing, {self.name} edits no images")
        if not able.edit_files and any(source.content is not None for source in request.sources):
            raise InvalidRequest("images", "(hidden)", f"addresses, {self.name} takes no files")

    def url(self, path: str) -> str:
        """Return the address of a path."""
        # People write the base URL with /v1, as the SDKs want it, or without, as the vendors' pages have it.
        base = self.settings.base_url
        return f"{base.removesuffix('/v1') if path.startswith('/v1/') else base}{path}"

    @property
    def submit_url(self) -> str:
        """Address of the call that generates."""
        return self.url(self.settings.submit_path or self.default_submit_path)

    @property
    def edit_url(self) -> str:
        """Address of the call that edits."""
        return self.url(self.default_edit_path)

    def headers(self) -> httpx.Headers:
        """Return the headers of every call: the connection's own, and the bearer token."""
        headers = httpx.Headers({"accept": "application/json"})
        headers.update(self.settings.headers)
        # Last: a header of the connection that replaced the token would bill another account than the ledger names.
        headers["authorization"] = f"Bearer {self.settings.token}"
        return headers

    def request(self, url: str, body: object) -> httpx.Request:
        """Build a JSON ``POST``."""
        return httpx.Request("POST", url, json=body, headers=self.headers())

    def multipart(self, url: str, body: Mapping[str, Any], request: EditRequest, images_field: str) -> httpx.Request:
        """Build a multipart ``POST`` with the request's images.

        :param images_field: Name of the field that repeats for every image.
        """
        named = [(images_field, image) for image in request.images]
        if request.mask is not None:
            named.append(("mask", request.mask))
        files = [(field, (source.name, source.content or b"", source.content_type)) for field, source in named]
        # As JSON spells them: gateways take "True" for a text.
        fields = {name: str(value).lower() if isinstance(value, bool) else value for name, value in body.items()}
        return httpx.Request("POST", url, data=fields, files=files, headers=self.headers())

    def fault(self, response: httpx.Response, phase: Phase) -> GatewayError:
        """Return the error that a response without the expected content stands for."""
        # Errors come with status 200 too: the body decides.
        if response.is_success and not read_error(read_document(response) or {}):
            return unreadable(response, self.name, phase, self.settings.token)
        return error_of(response, self.name, phase, self.settings.token)
