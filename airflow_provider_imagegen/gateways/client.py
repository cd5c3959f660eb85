"""Send what a gateway builds, once, and say what became of it.

The engine and the hook use this client; a plain script can, without Airflow running. A request fails in one of four
ways. What that means depends on its phase: a submit is paid for, a lookup, a cancellation and a check are free.

=====================  =================================================  ==================================
the request            submit                                             look up, cancel, check
=====================  =================================================  ==================================
did not leave          ``NotSent``: unbilled, safe to send again          ``LookUpFailed``
left, response lost    ``OutcomeUnknown``: billed or not, nobody knows    ``LookUpFailed``
response too large     ``OutcomeUnknown``                                 ``UnreadableResponse``
response not stored    ``OutcomeUnknown``                                 ``LookUpFailed``
=====================  =================================================  ==================================

A response that arrived whole is read by the gateway: a task, an image, a refusal (unbilled), or an unknown outcome.

Nothing in here repeats a request, and no transport does. A gateway may have accepted a request whose response was
lost, and bills the repetition as well: hardly any takes an idempotency key. What to do next is decided where the
ledger is (``engine/submit.py``), which looks the request up by its trace id before it sends anything again.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from airflow_provider_imagegen import __version__, metrics
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    ConfigurationError,
    GatewayError,
    LookUpFailed,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    TempFileFailed,
    UnreadableResponse,
)
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.base import Handle
from airflow_provider_imagegen.gateways.environment import proxy_to
from airflow_provider_imagegen.gateways.rate_limits import RateLimits
from airflow_provider_imagegen.gateways.response_body import MAX_IMAGES, ResponseContent, ResponseTooLarge
from airflow_provider_imagegen.gateways.response_reader import ResponseReader, read_response, reading
from airflow_provider_imagegen.gateways.responses import read_document, read_outputs
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.gateways.unpack import CODINGS
from airflow_provider_imagegen.redaction import redact_secrets, redacted
from airflow_provider_imagegen.schemas import EditRequest, ImageOutput, ImageRequest, ImageTask
from airflow_provider_imagegen.storage.tempfiles import temp_file_errors

CONNECT_TIMEOUT = 10.0
KEEP_ALIVE = 60.0
"""Seconds an idle connection is kept; httpx's own 5 s is just one poll interval."""
SUBMIT_TIME = 1800.0
"""Seconds a submit may take where the caller has no deadline."""
USER_AGENT = f"airflow-provider-imagegen/{__version__}"
# A request built outside the HTTP client has none of its headers. Without the first a server may choose any coding
# (RFC 9110, 12.5.3), and firewalls refuse requests without the second.
_HEADERS = {"accept-encoding": CODINGS, "user-agent": USER_AGENT}

# Raised before a byte of the request left, so nothing can have been accepted. WriteError and RemoteProtocolError are
# not among them: a server that hangs up early may have read enough of the request to bill it.
_BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.ProxyError,
    # httpx refuses to send what no request may hold, e.g. an illegal header.
    httpx.LocalProtocolError,
)

Phase = Literal["submit", "look_up", "cancel", "check"]
_Way = Literal["not sent", "lost", "too large", "not stored"]
_Failure = httpx.HTTPError | ResponseTooLarge | TempFileFailed
_T = TypeVar("_T")

_PAID: dict[_Way, tuple[type[GatewayError], str]] = {
    "not sent": (NotSent, "could not connect to {base_url}: {reason}"),
    "lost": (OutcomeUnknown, "the request was sent and its response was lost: {reason}"),
    "too large": (OutcomeUnknown, "{reason}"),
    "not stored": (OutcomeUnknown, "the response came, and {reason}"),
}
# A free request can be repeated whatever became of it, so how it was lost makes no difference.
_FREE: dict[_Way, tuple[type[GatewayError], str]] = {
    "not sent": (LookUpFailed, "no response from {base_url}: {reason}"),
    "lost": (LookUpFailed, "no response from {base_url}: {reason}"),
    "too large": (UnreadableResponse, "{reason}"),
    "not stored": (LookUpFailed, "the response came, and {reason}"),
}
_ERRORS = {"submit": _PAID, "look_up": _FREE, "cancel": _FREE, "check": _FREE}


class ImageClient:
    """An image gateway, ready to be called; an async context manager.

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
        self._limits = RateLimits()
        self._open: _OpenClient | None = None

    @property
    def timeout(self) -> float:
        """Seconds the gateway may stay silent."""
        return self.settings.timeout or self.gateway.timeout

    async def __aenter__(self) -> Self:
        http = httpx.AsyncClient(
            verify=tls_context(self.settings.verify),
            proxy=proxy_to(self.settings.base_url, self.settings),
            trust_env=False,
            timeout=httpx.Timeout(self.timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE),
        )
        self._open = _OpenClient(http, tempfile.TemporaryDirectory(prefix="imagegen-responses-"))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._open is not None:
            await self._open.http.aclose()
            self._open.images.cleanup()
            self._open = None

    async def submit(self, request: ImageRequest, trace_id: str, within: float = SUBMIT_TIME) -> ImageTask:
        """Send the paid call, once; it is never repeated here.

        :param request: What to generate, or to edit.
        :param trace_id: Our id of the call.
        :param within: Seconds until the response must be whole; its head may take the connection's timeout at most.
        :return: A running task, or a finished one where the gateway answers at once. Files of its outputs
            live as long as this client is open.
        :raises NotSent: No byte left; safe to repeat.
        :raises RateLimited: The gateway refused for now, or an earlier response said that it would.
        :raises OutcomeUnknown: The call left and no usable response came back.
        :raises GatewayError: The gateway refused.
        """
        with redact_secrets([*self._secrets, request.callback_url or ""]):
            try:
                if pause := self._limits.pause:
                    # Sent now, it would be refused, and some gateways count refusals too.
                    early = RateLimited(f"an earlier response said that no request is left for {pause:.0f} s")
                    early.gateway, early.retry_after = self.gateway.name, pause
                    raise early
                if isinstance(request, EditRequest):
                    call = self.gateway.edit(request, trace_id)
                else:
                    call = self.gateway.submit(request, trace_id)
                task = await self._request("submit", call, self._read_submitted, within)
            except GatewayError as error:
                error.trace_id = error.trace_id or trace_id
                raise
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
                some = keys[start : start + step]
                metrics.count("lookups")
                try:
                    read = partial(self._read_looked_up, some, by)
                    tasks |= await self._request("look_up", self.gateway.look_up(some, by), read)
                except AuthenticationError as error:
                    # The token was refused now; the task was accepted with an earlier one, and may be billed.
                    error.billed = "unknown"
                    raise
        return tasks

    async def cancel(self, task_id: str) -> None:
        """Ask the gateway to cancel a task, where it can.

        :raises GatewayError: If the gateway did not do it.
        """
        with redact_secrets(self._secrets):
            response = await self._request("cancel", self.gateway.cancel(task_id), self._read)
            self.gateway.read_cancelled(response.response)

    async def probe(self) -> None:
        """Check base URL and token with a free call.

        :raises GatewayError: If either is wrong.
        """
        with redact_secrets(self._secrets):
            self.gateway.read_probe((await self._request("check", self.gateway.probe(), self._read)).response)

    async def _request(
        self,
        phase: Phase,
        request: httpx.Request,
        read: Callable[[httpx.Response], Awaitable[_T]],
        within: float | None = None,
    ) -> _T:
        """Send a request, once, and return what its response says; its phase decides what a failure means.

        :param within: Seconds until the response must be whole; the connection's timeout if omitted.
        """
        within = self.timeout if within is None else within
        try:
            # A timeout of httpx starts again with every piece, and a gateway may send one now and then for ever.
            async with asyncio.timeout(within):
                with temp_file_errors():
                    async with self._response(request) as response:
                        return await read(response)
        except TimeoutError:
            raise self._error_for(httpx.ReadTimeout(f"no whole response within {within:g} s"), phase) from None
        except (httpx.HTTPError, ResponseTooLarge, TempFileFailed) as error:
            raise self._error_for(error, phase) from None

    def _error_for(self, failure: _Failure, phase: Phase) -> GatewayError:
        way: _Way
        if isinstance(failure, TempFileFailed):
            way, reason = "not stored", failure.message
        elif isinstance(failure, ResponseTooLarge):
            way, reason = "too large", str(failure)
        else:
            way = "not sent" if isinstance(failure, _BEFORE_SENDING) else "lost"
            reason = redacted(f"{type(failure).__name__} {failure}", [self.settings.token])
        kind, message = _ERRORS[phase][way]
        error = kind(message.format(base_url=self.settings.base_url, reason=reason), gateway=self.gateway.name)
        if isinstance(failure, TempFileFailed) and phase == "submit":
            error.advice = f"{failure.advice} A gateway that can look it up is asked for it again."
        return error

    @asynccontextmanager
    async def _response(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        http = self._opened.http
        for name, value in _HEADERS.items():
            request.headers.setdefault(name, value)
        # A request built outside the client carries no timeout of its own.
        request.extensions.setdefault("timeout", http.timeout.as_dict())
        try:
            # How long a request can be on its way must be known: a claim whose request does not show up by then is
            # taken over, and sent again.
            async with asyncio.timeout(self.timeout):
                with quiet_httpx():
                    response = await http.send(request, stream=True)
                # For server-sent events, which are UTF-8 whatever the header says.
                response.encoding = "utf-8"
        except TimeoutError:
            raise httpx.ReadTimeout(f"no response within {self.timeout:g} s") from None
        try:
            yield response
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response) -> ResponseContent:
        return await read_response(response, self._images)

    async def _read_submitted(self, response: httpx.Response) -> ImageTask:
        self._limits.see(response.headers)
        task = None
        async with reading(response, self._images) as reader:
            if self.gateway.capabilities.streaming and response.is_success:
                task = await self._read_events(reader)
            else:
                await reader.read()
        content = reader.content
        return _with_files(task or self.gateway.read_submitted(content.response), content)

    async def _read_looked_up(self, keys: Sequence[str], by: Handle, response: httpx.Response) -> dict[str, ImageTask]:
        content = await self._read(response)
        found = self.gateway.read_looked_up(content.response, keys, by)
        tasks = {key: _with_files(task, content) for key, task in found.items()}
        _remove_unused(content, tasks.values())
        return tasks

    async def _read_events(self, reader: ResponseReader) -> ImageTask | None:
        """Read a response until its events hold the image; return ``None`` if it has no events at all.

        A stream that stays silent too long raises ``httpx.ReadTimeout``; one that ends early has no image.
        """
        previews: list[dict[str, Any]] = []
        has_events = False
        async with aclosing(reader.events()) as events:
            async for event in events:
                document = read_document(httpx.Response(200, text=event.data))
                if document is None:
                    continue
                has_events = True
                # Some gateways say what an event is only in its "event:" line; "message" is what the others are.
                if event.event != "message":
                    document.setdefault("type", event.event)
                if task := self.gateway.read_events([*previews, document]):
                    return task
                if read_outputs([document]) and len(previews) < MAX_IMAGES:
                    previews.append(document)
        if not has_events:
            return None
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


class _OpenClient(NamedTuple):
    """The connections of an opened client, and the directory of the images that come inside responses."""

    http: httpx.AsyncClient
    images: tempfile.TemporaryDirectory[str]


def _with_files(task: ImageTask, content: ResponseContent) -> ImageTask:
    """Return the task with decoded files in place of base64, and of the markers that stand for it."""

    def resolved(output: ImageOutput) -> ImageOutput:
        text = output.b64_json or output.url or ""
        if output.b64_json is None and not content.is_image(text):
            return output
        file, damage = content.file_of(text)
        return output.model_copy(update={"url": None, "b64_json": None, "file": file, "damage": damage})

    outputs, previews = tuple(map(resolved, task.outputs)), tuple(map(resolved, task.previews))
    return task.model_copy(update={"outputs": outputs, "previews": previews})


def _remove_unused(content: ResponseContent, tasks: Iterable[ImageTask]) -> None:
    # A running task's preview comes with every lookup, and a triggerer's client lives for weeks: its disk would fill.
    held = {output.file for task in tasks for output in (*task.outputs, *task.previews)}
    for path in content.files.values():
        if path not in held:
            path.unlink(missing_ok=True)


@cache
def tls_context(verify: bool | str) -> ssl.SSLContext:
    """Return the process's TLS context for a ``verify`` setting: a flag, or the path of a CA bundle."""
    # Building one blocks the event loop for some 15 ms and holds 800 KB, hence one for all clients.
    try:
        if isinstance(verify, str):
            return ssl.create_default_context(cafile=verify)
        return httpx.create_ssl_context(verify=verify)
    except OSError as error:
        source = f"verify={verify!r}" if isinstance(verify, str) else "of the environment variable SSL_CERT_FILE"
        raise ConfigurationError(f"the CA bundle {source} cannot be read: {error}") from None


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
