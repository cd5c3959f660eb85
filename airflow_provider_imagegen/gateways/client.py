"""Sends what a gateway builds, once, and says what became of it.

Used by the hook and by the job; a plain script may use it without Airflow running.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource

from airflow_provider_imagegen import metrics
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    ConfigurationError,
    GatewayError,
    LookUpFailed,
    NotSent,
    OutcomeUnknown,
    TempFileFailed,
    UnreadableResponse,
)
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.base import Handle
from airflow_provider_imagegen.gateways.response_body import ResponseContent, ResponseTooLarge, read_response
from airflow_provider_imagegen.gateways.responses import read_document
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.redaction import redact_secrets, redacted
from airflow_provider_imagegen.schemas import EditRequest, ImageOutput, ImageRequest, ImageTask
from airflow_provider_imagegen.storage.tempfiles import temp_file_errors

CONNECT_TIMEOUT = 10.0
"""Seconds to establish a connection."""
KEEP_ALIVE = 60.0
"""Seconds an idle connection is kept; httpx's own 5 s is just one poll interval."""

# Raised before a byte of the request left, so nothing can have been accepted.
_BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.ProxyError,
    # httpx refuses to send what no request may hold, e.g. an illegal header.
    httpx.LocalProtocolError,
)


class ImageClient:
    """An image gateway, ready to be spoken to; an async context manager.

    .. code-block:: python

        settings = GatewaySettings(base_url="https://api.acedata.cloud", token="…")
        async with ImageClient(settings) as client:
            task = await client.submit(ImageRequest(prompt="an otter", model="gpt-image-1"), trace_id="…")

    :param settings: Where the gateway is and how to speak to it.
    :raises ConfigurationError: If the settings name no known gateway.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.gateway = gateway_for(settings)
        self._open: _OpenClient | None = None

    @property
    def timeout(self) -> float:
        """Seconds the gateway may stay silent."""
        return self.settings.timeout or self.gateway.timeout

    async def __aenter__(self) -> Self:
        http = httpx.AsyncClient(
            verify=tls_context(self.settings.verify),
            proxy=self.settings.proxy,
            timeout=httpx.Timeout(self.timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE),
        )
        self._open = _OpenClient(http, tempfile.TemporaryDirectory(prefix="imagegen-responses-"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            await self._open.http.aclose()
            self._open.images.cleanup()
            self._open = None

    async def submit(self, request: ImageRequest, trace_id: str) -> ImageTask:
        """Send the paid call, once; it is never repeated here.

        :param request: What to generate, or to edit.
        :param trace_id: Our id of the call.
        :return: A running task, or a finished one where the gateway answers at once. Files of its outputs
            live as long as this client is open.
        :raises NotSent: No byte left; safe to repeat.
        :raises OutcomeUnknown: The call left and no usable response came back.
        :raises GatewayError: The gateway refused.
        """
        with redact_secrets([*self._secrets, request.callback_url or ""]):
            return await self._submit(request, trace_id)

    async def _submit(self, request: ImageRequest, trace_id: str) -> ImageTask:
        gateway = self.gateway
        if isinstance(request, EditRequest):
            call = gateway.edit(request, trace_id)
        else:
            call = gateway.submit(request, trace_id)
        try:
            with temp_file_errors():
                return await self._submitted(call, trace_id)
        except TempFileFailed as error:
            words = f"the response came, and {error.message}"
            advice = f"{error.advice} A gateway that can look it up is asked for it again."
            raise OutcomeUnknown(words, gateway=gateway.name, trace_id=trace_id, advice=advice) from None
        except httpx.HTTPError as error:
            raise self._submit_fault(error, trace_id) from None
        except ResponseTooLarge as error:
            raise OutcomeUnknown(str(error), gateway=gateway.name, trace_id=trace_id) from None
        except GatewayError as error:
            error.trace_id = error.trace_id or trace_id
            raise

    async def _submitted(self, call: httpx.Request, trace_id: str) -> ImageTask:
        async with self._sent(call) as response:
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                task = await self._read_events(response)
            else:
                content = await read_response(response, self._images)
                task = _with_files(self.gateway.read_submitted(content.response), content)
        return task if task.trace_id else task.model_copy(update={"trace_id": trace_id})

    async def look_up(self, keys: Sequence[str], by: Handle = "id") -> dict[str, ImageTask]:
        """Ask for tasks, in as few calls as the gateway allows; lookups are free.

        :param keys: The gateway's ids, or trace ids of ours where the gateway can look up by them.
        :param by: Which of the two they are.
        :return: One task for every key; ``unseen`` where the gateway shows none.
        :raises LookUpFailed: If no usable response came back.
        :raises AuthenticationError: If the token is not accepted.
        """
        if keys and not self.gateway.capabilities.tasks:
            words = f"{self.settings.name} leads to {self.gateway.name}, which has no tasks to look up"
            raise ConfigurationError(words, billed="unknown", advice="Was its gateway changed? Change it back.")
        tasks: dict[str, ImageTask] = {}
        step = self.gateway.capabilities.ids_per_look_up
        with redact_secrets(self._secrets):
            for start in range(0, len(keys), step):
                tasks |= await self._look_up(keys[start : start + step], by)
        return tasks

    async def _look_up(self, keys: Sequence[str], by: Handle) -> dict[str, ImageTask]:
        metrics.count("lookups")
        try:
            with temp_file_errors():
                async with self._sent(self.gateway.look_up(keys, by)) as response:
                    content = await read_response(response, self._images)
            found = self.gateway.read_looked_up(content.response, keys, by)
        except TempFileFailed as error:
            raise LookUpFailed(f"the response came, and {error.message}", gateway=self.gateway.name) from None
        except httpx.HTTPError as error:
            raise self._look_up_fault(error) from None
        except ResponseTooLarge as error:
            raise UnreadableResponse(str(error), gateway=self.gateway.name) from None
        except AuthenticationError as error:
            error.billed = "unknown"
            raise
        tasks = {key: _with_files(task, content) for key, task in found.items()}
        _remove_unused(content, tasks.values())
        return tasks

    async def cancel(self, task_id: str) -> None:
        """Ask the gateway to cancel a task, where it can.

        :raises GatewayError: If the gateway did not do it.
        """
        with redact_secrets(self._secrets):
            self.gateway.read_cancelled(await self._answer(self.gateway.cancel(task_id)))

    async def probe(self) -> None:
        """Prove base URL and token with a free call.

        :raises GatewayError: If either is wrong.
        """
        with redact_secrets(self._secrets):
            self.gateway.read_probe(await self._answer(self.gateway.probe()))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        """Return the response to a call that is free and says little."""
        try:
            async with self._sent(request) as response:
                return (await read_response(response, self._images)).response
        except httpx.HTTPError as error:
            raise self._look_up_fault(error) from None
        except ResponseTooLarge as error:
            raise UnreadableResponse(str(error), gateway=self.gateway.name) from None

    async def _read_events(self, response: httpx.Response) -> ImageTask:
        """Read a streamed response until the image is there.

        A stream that stays silent too long raises ``httpx.ReadTimeout``; one that ends early has no image.
        """
        events: list[dict[str, Any]] = []
        contents: list[ResponseContent] = []
        async for event in EventSource(response).aiter_sse():
            body = httpx.Response(200, text=event.data, request=response.request)
            content = await read_response(body, self._images)
            document = read_document(content.response)
            if document is None:
                continue
            events.append(document)
            contents.append(content)
            if task := self.gateway.read_events(events):
                return _with_files(task, *contents)
        raise OutcomeUnknown("the stream ended before the image was complete", gateway=self.gateway.name)

    @property
    def _secrets(self) -> list[str]:
        """What the connection holds that no error may show."""
        proxy = urlsplit(self.settings.proxy or "").password
        return [self.settings.token, *self.settings.headers.values(), *([proxy] if proxy else [])]

    @property
    def _images(self) -> Path:
        return Path(self._opened.images.name)

    @property
    def _opened(self) -> _OpenClient:
        if self._open is None:
            raise RuntimeError("ImageClient is used outside its 'async with' block")
        return self._open

    @asynccontextmanager
    async def _sent(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        http = self._opened.http
        # A request built outside the client carries no time-out of its own.
        request.extensions.setdefault("timeout", http.timeout.as_dict())
        try:
            # A time-out of httpx starts again with every piece; how long a request can be on its way must be known.
            async with asyncio.timeout(self.timeout):
                with quiet_httpx():
                    response = await http.send(request, stream=True)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no response within {self.timeout:g} s") from None
        try:
            yield response
        finally:
            await response.aclose()

    def _submit_fault(self, error: httpx.HTTPError, trace_id: str) -> GatewayError:
        words = self._words(error)
        if isinstance(error, _BEFORE_SENDING):
            return NotSent(
                f"could not connect to {self.settings.base_url}: {words}",
                gateway=self.gateway.name,
                trace_id=trace_id,
            )
        return OutcomeUnknown(
            f"the request was sent and its response was lost: {words}",
            gateway=self.gateway.name,
            trace_id=trace_id,
        )

    def _look_up_fault(self, error: httpx.HTTPError) -> LookUpFailed:
        return LookUpFailed(
            f"no response from {self.settings.base_url}: {self._words(error)}", gateway=self.gateway.name
        )

    def _words(self, error: httpx.HTTPError) -> str:
        return redacted(f"{type(error).__name__} {error}", [self.settings.token])


@dataclass(frozen=True)
class _OpenClient:
    """What an opened client holds.

    :param http: The connections.
    :param images: Where images go that come inside responses.
    """

    http: httpx.AsyncClient
    images: tempfile.TemporaryDirectory[str]


def _with_files(task: ImageTask, *contents: ResponseContent) -> ImageTask:
    """Return the task with the decoded files in place of the markers that stand for them."""
    if not any(content.files or content.damaged for content in contents):
        return task
    files = {marker: path for content in contents for marker, path in content.files.items()}
    damaged = {marker: words for content in contents for marker, words in content.damaged.items()}

    def resolved(output: ImageOutput) -> ImageOutput:
        marker = output.b64_json or output.url or ""
        if marker in files:
            return output.model_copy(update={"url": None, "b64_json": None, "file": files[marker]})
        if marker in damaged:
            return output.model_copy(update={"url": None, "b64_json": None, "damage": damaged[marker]})
        return output

    outputs = tuple(resolved(output) for output in task.outputs)
    previews = tuple(resolved(preview) for preview in task.previews)
    return task.model_copy(update={"outputs": outputs, "previews": previews})


def _remove_unused(content: ResponseContent, tasks: Iterable[ImageTask]) -> None:
    """Remove decoded files that no task holds, such as previews of a running task: a client may live long."""
    held = {output.file for task in tasks for output in (*task.outputs, *task.previews)}
    for path in content.files.values():
        if path not in held:
            path.unlink(missing_ok=True)


@cache
def tls_context(verify: bool | str) -> ssl.SSLContext:
    """Return the process's TLS context for a ``verify`` setting.

    Building one blocks the event loop for some 15 ms and holds 800 KB, hence one for all clients.

    :param verify: Whether to verify certificates, or the path of a CA bundle.
    :raises ConfigurationError: If the bundle cannot be read.
    """
    if verify is True or verify is False:
        return httpx.create_ssl_context(verify=verify)
    try:
        return ssl.create_default_context(cafile=verify)
    except OSError as error:
        raise ConfigurationError(f"the CA bundle verify={verify!r} cannot be read: {error}") from None


_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("imagegen_quiet_httpx", default=False)


@contextmanager
def quiet_httpx() -> Iterator[None]:
    """Keep httpx's request log silent inside the block: it shows whole URLs, signatures included."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def _is_loud(record: logging.LogRecord) -> bool:
    return not _quiet.get()


# At its DEBUG level httpcore logs headers, addresses to follow among them.
for _name in ("httpx", "httpcore.http11"):
    logging.getLogger(_name).addFilter(_is_loud)
