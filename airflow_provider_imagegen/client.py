"""Sends what a gateway builds, once, and says what became of it.

Used by the hook and by the job; a plain script may use it without Airflow running.
"""

from __future__ import annotations

import contextvars
import logging
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Self

import httpx

from airflow_provider_imagegen.connection import GatewaySettings
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    ConfigurationError,
    GatewayError,
    LookUpFailed,
    NotSent,
    OutcomeUnknown,
)
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.answers import error_of
from airflow_provider_imagegen.redaction import redacted
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask

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
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(
            verify=tls_context(self.settings.verify),
            proxy=self.settings.proxy,
            timeout=httpx.Timeout(self.settings.timeout or self.gateway.timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def submit(self, request: ImageRequest, trace_id: str) -> ImageTask:
        """Send the paid call, once; it is never repeated here.

        :param request: What to draw.
        :param trace_id: Our id of the call.
        :return: A running task, or a finished one where the gateway answers at once.
        :raises NotSent: No byte left; safe to repeat.
        :raises OutcomeUnknown: The call left and no usable answer came back.
        :raises GatewayError: The gateway refused.
        """
        try:
            response = await self._send(self.gateway.submit(request, trace_id))
            task = self.gateway.read_submitted(response)
        except httpx.HTTPError as error:
            raise self._submit_fault(error, trace_id) from None
        except GatewayError as error:
            error.trace_id = error.trace_id or trace_id
            raise
        return task if task.trace_id else task.model_copy(update={"trace_id": trace_id})

    async def look_up(self, task_ids: Sequence[str]) -> dict[str, ImageTask]:
        """Ask for tasks, in as few calls as the gateway allows; look-ups are free.

        :param task_ids: The gateway's ids.
        :return: One task for every id; ``unseen`` where the gateway shows none.
        :raises LookUpFailed: If no usable answer came back.
        :raises AuthenticationError: If the token is not accepted.
        """
        tasks: dict[str, ImageTask] = {}
        step = self.gateway.abilities.ids_per_look_up
        for ids in (task_ids[start : start + step] for start in range(0, len(task_ids), step)):
            try:
                response = await self._send(self.gateway.look_up(ids))
                tasks |= self.gateway.read_looked_up(response, ids)
            except httpx.HTTPError as error:
                raise self._look_up_fault(error) from None
            except AuthenticationError as error:
                error.billed = "unknown"
                raise
        return tasks

    async def probe(self) -> None:
        """Prove base URL and token with a free call.

        :raises GatewayError: If either is wrong.
        """
        try:
            response = await self._send(self.gateway.probe())
        except httpx.HTTPError as error:
            raise self._look_up_fault(error) from None
        if not response.is_success:
            raise error_of(response, self.gateway.name, "look_up", self.settings.token)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        if self._http is None:
            raise RuntimeError("ImageClient is used outside its 'async with' block")
        # A request built outside the client carries no time-out of its own.
        request.extensions.setdefault("timeout", self._http.timeout.as_dict())
        with quiet_httpx():
            return await self._http.send(request)

    def _submit_fault(self, error: httpx.HTTPError, trace_id: str) -> GatewayError:
        words = self._words(error)
        if isinstance(error, _BEFORE_SENDING):
            return NotSent(
                f"could not connect to {self.settings.base_url}: {words}",
                gateway=self.gateway.name,
                trace_id=trace_id,
            )
        return OutcomeUnknown(
            f"the request was sent and its answer was lost: {words}",
            gateway=self.gateway.name,
            trace_id=trace_id,
        )

    def _look_up_fault(self, error: httpx.HTTPError) -> LookUpFailed:
        return LookUpFailed(f"no answer from {self.settings.base_url}: {self._words(error)}", gateway=self.gateway.name)

    def _words(self, error: httpx.HTTPError) -> str:
        return redacted(f"{type(error).__name__} {error}", [self.settings.token])


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


logging.getLogger("httpx").addFilter(_is_loud)
