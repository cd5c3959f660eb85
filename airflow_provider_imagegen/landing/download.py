"""From a result's address to bytes in a file."""

from __future__ import annotations

from types import TracebackType
from typing import IO, Self

import httpx

from airflow_provider_imagegen.client import CONNECT_TIMEOUT, quiet_httpx, tls_context
from airflow_provider_imagegen.connection import GatewaySettings
from airflow_provider_imagegen.exceptions import DownloadFailed, NotAnImage, ResultExpired
from airflow_provider_imagegen.landing.pictures import MAX_BYTES, PIECE
from airflow_provider_imagegen.redaction import address_of, redacted

DOWNLOAD_TIMEOUT = 60.0
"""Seconds a result host may stay silent."""


class Downloader:
    """Fetches results; an async context manager.

    :param settings: The gateway's connection: its TLS settings count for result hosts too, its token does
        not go there.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(
            verify=tls_context(self._settings.verify),
            timeout=httpx.Timeout(DOWNLOAD_TIMEOUT, connect=CONNECT_TIMEOUT),
            follow_redirects=True,
            max_redirects=3,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def fetch(self, url: str, file: IO[bytes]) -> None:
        """Fetch a result into an empty file.

        :raises ResultExpired: If the address no longer leads to it.
        :raises DownloadFailed: If it could not be fetched whole.
        :raises NotAnImage: If it is larger than allowed.
        """
        if self._http is None:
            raise RuntimeError("Downloader is used outside its 'async with' block")
        try:
            with quiet_httpx():
                async with self._http.stream("GET", url) as response:
                    await self._receive(response, url, file)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            words = redacted(f"{type(error).__name__} {error}")
            raise DownloadFailed(f"{address_of(url)} could not be fetched: {words}") from None

    async def _receive(self, response: httpx.Response, url: str, file: IO[bytes]) -> None:
        if response.status_code in {403, 404, 410}:
            raise ResultExpired(f"{address_of(url)} answered {response.status_code}")
        if not response.is_success:
            raise DownloadFailed(f"{address_of(url)} answered {response.status_code}")
        received = 0
        async for piece in response.aiter_bytes(PIECE):
            received += len(piece)
            if received > MAX_BYTES:
                raise NotAnImage(f"{address_of(url)} sends more than {MAX_BYTES} bytes")
            # A local temporary file takes 64 KB faster than a hop to a thread costs.
            file.write(piece)
