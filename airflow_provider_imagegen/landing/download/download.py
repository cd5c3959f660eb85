"""From a result's address to bytes in a file: whole, bounded in size and time, from public hosts only.

:class:`Landing` calls :meth:`Downloader.fetch` for every result. Modules below: ``hosts`` (may it lead
there?), ``network`` (the connection), ``redirects`` (the hops), ``partial`` (what has arrived).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import IO, Self

import httpcore
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from airflow_provider_imagegen import __version__
from airflow_provider_imagegen.exceptions import DownloadFailed, ResultExpired, ResultHostRefused
from airflow_provider_imagegen.gateways.client import CONNECT_TIMEOUT, quiet_httpx
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing.download.network import MAX_DOWNLOADS, LeadsInside, Resolver, Ways, resolve
from airflow_provider_imagegen.landing.download.partial import CutOff, PartialFile
from airflow_provider_imagegen.landing.download.redirects import Journey
from airflow_provider_imagegen.redaction import redacted
from airflow_provider_imagegen.storage.files import MAX_IMAGE_BYTES

SILENCE = 60.0
"""Seconds a result host may stay silent."""
WHOLE_TIME = 300.0
"""Seconds one image may take, tries and pauses included."""
TRIES = 3
"""Times one image is asked for."""
PAUSE = wait_random_exponential(multiplier=1, min=0.2, max=5)
"""Seconds between two tries."""

_USER_AGENT = f"airflow-provider-imagegen/{__version__}"
_EXPIRED = {403, 404, 410}
_BUSY = {408, 425, 429}
_NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    ssl.SSLError,
)


class Downloader:
    """Fetches results; an async context manager.

    Result hosts are strangers: no token, cookie or header of the connection goes there. They are reached
    through the connection's or the environment's proxy where there is one, see
    :class:`~airflow_provider_imagegen.landing.download.network.Ways`.

    :param settings: The gateway's connection: its TLS settings and proxy count for result hosts too.
    :param resolver: Finds addresses of names; by default the system's.
    :param dial: Opens connections to IP addresses; by default httpcore's own way.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        resolver: Resolver = resolve,
        dial: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._dial = dial
        self._turns = asyncio.Semaphore(MAX_DOWNLOADS)
        self._ways: Ways | None = None

    async def __aenter__(self) -> Self:
        self._ways = Ways(self._settings, self._resolver, self._dial)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ways is not None:
            await self._ways.aclose()
            self._ways = None

    async def fetch(self, url: str, file: IO[bytes]) -> None:
        """Fetch a result into an empty file.

        A body that is cut off is asked for again: only the missing part where the host can send it.

        :raises ResultExpired: If the address no longer leads to it.
        :raises ResultHostRefused: If it leads to an address that is not public.
        :raises DownloadFailed: If it could not be fetched whole.
        :raises NotAnImage: If it is larger than allowed.
        :raises OSError: If the file does not take it.
        """
        async with self._turns:
            start = Journey(url, self._settings.allow_insecure_results)
            partial = PartialFile(file, str(start), MAX_IMAGE_BYTES)
            try:
                async with asyncio.timeout(WHOLE_TIME):
                    await self._fetch(url, partial)
            except TimeoutError:
                raise DownloadFailed(f"{start} could not be fetched whole in {WHOLE_TIME:g} seconds") from None
            except CutOff as error:
                raise DownloadFailed(f"{start} could not be fetched whole in {TRIES} tries: {error}") from None

    async def _fetch(self, url: str, partial: PartialFile) -> None:
        tries = AsyncRetrying(
            stop=stop_after_attempt(TRIES), wait=PAUSE, retry=retry_if_exception_type(CutOff), reraise=True
        )
        async for attempt in tries:
            with attempt, quiet_httpx():
                await self._try(Journey(url, self._settings.allow_insecure_results), partial)

    async def _try(self, journey: Journey, partial: PartialFile) -> None:
        try:
            async with self._answer(journey, partial) as (response, headers):
                partial.begin(response.status, headers)
                async for piece in response.aiter_stream():
                    partial.write(piece)
                partial.finish()
        except _NETWORK_ERRORS as error:
            raise CutOff(f"at {journey.place.host}: {redacted(f'{type(error).__name__} {error}')}") from None
        except LeadsInside as error:
            raise ResultHostRefused(
                f"{journey} leads to {error.address}, which is not a public address: list the host in the "
                "connection's private_result_hosts if it is meant to be"
            ) from None

    @asynccontextmanager
    async def _answer(
        self, journey: Journey, partial: PartialFile
    ) -> AsyncIterator[tuple[httpcore.Response, Mapping[str, str]]]:
        """Yield the response with the body, at the end of all redirects."""
        while True:
            async with self._asked(journey, partial) as response:
                headers = _headers_of(response)
                if not journey.is_redirected(response.status, headers):
                    _check_status(response.status, journey)
                    yield response, headers
                    return

    @asynccontextmanager
    async def _asked(self, journey: Journey, partial: PartialFile) -> AsyncIterator[httpcore.Response]:
        if self._ways is None:
            raise RuntimeError("Downloader is used outside its 'async with' block")
        place = journey.place
        try:
            pool = await self._ways.to(place)
        except ValueError as error:
            raise DownloadFailed(f"{journey} could not be fetched: {error}") from None
        own = {"Host": place.authority, "User-Agent": _USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
        async with pool.stream(
            "GET",
            httpcore.URL(scheme=place.scheme, host=place.host, port=place.port, target=place.target),
            headers=[*((name.encode(), value.encode()) for name, value in own.items()), *partial.wanted],
            extensions={"timeout": {"connect": CONNECT_TIMEOUT, "read": SILENCE, "write": SILENCE, "pool": SILENCE}},
        ) as response:
            yield response


def _headers_of(response: httpcore.Response) -> dict[str, str]:
    """Return headers by their lower-case names; bytes that are no UTF-8 survive as surrogates."""
    return {name.decode("ascii").lower(): value.decode(errors="surrogateescape") for name, value in response.headers}


def _check_status(status: int, journey: Journey) -> None:
    """Let answers with a body pass, and those that say which part of it does not exist."""
    if status in _EXPIRED:
        raise ResultExpired(f"{journey} answered {status}", status=status)
    if status in _BUSY or status >= 500:
        raise CutOff(f"{journey.place.host} answered {status}")
    if status != 416 and not 200 <= status < 300:
        raise DownloadFailed(f"{journey} answered {status}", status=status)
