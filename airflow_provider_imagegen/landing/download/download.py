"""From a result's URL to bytes in a file: whole, bounded in size and time, from allowed hosts only.

:class:`Landing` calls :meth:`Downloader.fetch` for every result. Below it: ``hosts`` (decisions of the guard, and the
page to read first), ``network`` (the connection), ``body`` (what has arrived).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, Self

import httpcore
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from airflow_provider_imagegen.exceptions import ConfigurationError, DownloadFailed, ResultExpired, ResultHostRefused
from airflow_provider_imagegen.gateways.client import CONNECT_TIMEOUT, USER_AGENT, quiet_httpx, tls_context
from airflow_provider_imagegen.gateways.environment import proxy_to
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing.download.body import BodyFile, CutOff
from airflow_provider_imagegen.landing.download.hosts import PORTS, Hop, Place, ResultHosts
from airflow_provider_imagegen.landing.download.network import (
    GuardedNetwork,
    LeadsInside,
    Resolver,
    parsed_proxy,
    resolve,
)
from airflow_provider_imagegen.redaction import redacted
from airflow_provider_imagegen.storage.tempfiles import MAX_IMAGE_BYTES

MAX_DOWNLOADS = 8
SILENCE = 60.0
"""Seconds a result host may stay silent."""
WHOLE_TIME = 300.0
"""Seconds one image may take, attempts and pauses included."""
TRIES = 3
PAUSE = wait_random_exponential(multiplier=1, min=0.2, max=5)

_REDIRECTS = {301, 302, 303, 307, 308}
_EXPIRED = {403, 404, 410}
# A part is never asked for: 206 is the mistake of a cache, and its bytes are not the image.
_WORTH_ANOTHER_ATTEMPT = {206, 408, 425, 429}
_NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    ssl.SSLError,
)


class Downloader:
    """Fetches results; an async context manager.

    Result hosts are strangers: no token, cookie or header of the connection goes there. They are reached directly,
    unless the connection names a proxy or the environment does (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``,
    ``NO_PROXY``); hosts of ``private_result_hosts`` are inside and always reached directly.

    :param settings: The gateway's connection: its TLS settings and proxy count for result hosts too.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        resolver: Resolver = resolve,
        dial: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._settings = settings
        self._hosts = ResultHosts.of(settings)
        self._dial = dial or httpcore.AnyIOBackend()
        self._networks = {scheme: GuardedNetwork(scheme, self._hosts, resolver, self._dial) for scheme in PORTS}
        self._pools: dict[tuple[str, str | None], httpcore.AsyncConnectionPool] = {}
        self._slots = asyncio.Semaphore(MAX_DOWNLOADS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    async def fetch(self, url: str, file: IO[bytes]) -> None:
        """Fetch a result into an empty file; one that is cut off is fetched again."""
        async with self._slots:
            await self._fetch(Hop.first(url), file)

    async def _fetch(self, start: Hop, file: IO[bytes]) -> None:
        stop, retry = stop_after_attempt(TRIES), retry_if_exception_type(CutOff)
        retrying = AsyncRetrying(stop=stop, wait=PAUSE, retry=retry, reraise=True)
        try:
            with quiet_httpx():
                # One limit for all attempts: a host that drips a byte a minute is never silent.
                async with asyncio.timeout(WHOLE_TIME):
                    await retrying(self._attempt, start, file)
        except TimeoutError:
            raise DownloadFailed(f"{start} could not be fetched whole in {WHOLE_TIME:g} seconds") from None
        except CutOff as error:
            raise DownloadFailed(f"{start} could not be fetched whole in {TRIES} tries: {error}") from None

    async def _attempt(self, hop: Hop, file: IO[bytes]) -> None:
        try:
            while (location := await self._save(hop, file)) is not None:
                hop = hop.redirected(location, self._settings.allow_insecure_results)
        except _NETWORK_ERRORS as error:
            raise CutOff(f"at {hop.place.host}: {redacted(f'{type(error).__name__} {error}')}") from None
        except ConfigurationError as error:
            # The image is paid for, and waits for a worker with another environment.
            raise DownloadFailed(error.message) from None
        except LeadsInside as error:
            raise ResultHostRefused(
                f"{hop} leads to {error}, which is not a public address: list the host in the "
                "connection's private_result_hosts if it is meant to be"
            ) from None

    async def _save(self, hop: Hop, file: IO[bytes]) -> str | None:
        """Save the body of a response; return where it redirects to instead."""
        async with self._response(hop) as response:
            headers = _headers_of(response)
            if response.status in _REDIRECTS and (location := headers.get("location")):
                return location
            _check_status(response.status, hop)
            body = BodyFile(file, headers, str(hop), MAX_IMAGE_BYTES)
            async for piece in response.aiter_stream():
                body.write(piece)
            body.finish()
            if not body.size:
                # Object stores and CDNs answer so while what is asked for is still being written.
                raise ResultExpired(f"{hop} answered {response.status} without a body", status=response.status)
            return None

    @asynccontextmanager
    async def _response(self, hop: Hop) -> AsyncIterator[httpcore.Response]:
        place = hop.place
        pool = await self._pool(place)
        async with pool.stream(
            "GET",
            httpcore.URL(scheme=place.scheme, host=place.host, port=place.port, target=place.target),
            # All that is sent. An encoded body is asked not to come: its announced length would say little.
            headers={"Host": place.authority, "User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
            extensions={"timeout": {"connect": CONNECT_TIMEOUT, "read": SILENCE, "write": SILENCE, "pool": SILENCE}},
        ) as response:
            yield response

    async def _pool(self, place: Place) -> httpcore.AsyncConnectionPool:
        network = self._networks[place.scheme]
        origin = f"{place.scheme}://{place.authority}"
        proxy = None if self._hosts.lists(place.host) else proxy_to(origin, self._settings)
        if proxy is not None:
            # The proxy opens the connection, out of the guard's reach, and may stand inside the network itself. Its
            # own address is not checked: the user names it.
            await network.check(place.host, place.port)
        if (place.scheme, proxy) not in self._pools:
            context = tls_context(self._settings.verify)
            self._pools[place.scheme, proxy] = httpcore.AsyncConnectionPool(
                context,
                proxy=None if proxy is None else parsed_proxy(proxy, context),
                max_connections=MAX_DOWNLOADS,
                network_backend=network if proxy is None else self._dial,
            )
        return self._pools[place.scheme, proxy]


def _headers_of(response: httpcore.Response) -> dict[str, str]:
    """Return headers by their lower-case names; bytes that are no UTF-8 survive as surrogates."""
    return {name.decode("ascii").lower(): value.decode(errors="surrogateescape") for name, value in response.headers}


def _check_status(status: int, hop: Hop) -> None:
    if status in _EXPIRED:
        raise ResultExpired(f"{hop} answered {status}", status=status)
    if status in _WORTH_ANOTHER_ATTEMPT or status >= 500:
        raise CutOff(f"{hop.place.host} answered {status}")
    if not 200 <= status < 300:
        raise DownloadFailed(f"{hop} answered {status}", status=status)
