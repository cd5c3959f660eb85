"""Connections to result hosts, direct or through a proxy; every address is checked right before it is used."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, zip_longest
from urllib.parse import urlsplit

import httpcore
import httpx

from airflow_provider_imagegen.gateways.client import CONNECT_TIMEOUT
from airflow_provider_imagegen.landing.download.hosts import IPAddress, ResultHosts, literal_address

LOOK_UP_BEFORE_PROXY = 3.0
"""Seconds to find out where a name leads before a proxy is asked for it."""

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the IP addresses of a host; raises ``OSError`` if there are none."""


_MAX_ADDRESSES = 4
"""Addresses of a host to try: they share one timeout, and each must have time for a slow handshake."""


class LeadsInside(Exception):
    """A host leads to an address that results must not come from: the address is its text."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections to allowed addresses only; ``dial`` is only ever given IP addresses."""

    def __init__(self, scheme: str, hosts: ResultHosts, resolver: Resolver, dial: httpcore.AsyncNetworkBackend) -> None:
        self._scheme = scheme
        self._hosts = hosts
        self._resolver = resolver
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that answers, if all of its addresses are allowed."""
        deadline = time.monotonic() + (CONNECT_TIMEOUT if timeout is None else timeout)
        left = await self._allowed(host, port, deadline)
        while True:
            # The address, never the name: resolved a second time it could lead elsewhere (DNS rebinding).
            address = left.pop(0)
            share = (deadline - time.monotonic()) / (len(left) + 1)
            try:
                return await self._dial.connect_tcp(address, port, max(share, 0.0), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not left:
                    raise

    async def check(self, host: str, port: int) -> None:
        """Refuse a host that a proxy is about to be asked for, if it is known here and leads inside."""
        try:
            await self._allowed(host, port, time.monotonic() + LOOK_UP_BEFORE_PROXY)
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            # Behind a proxy workers often have no public DNS: then the proxy resolves, and refuses, by its own rules.
            return

    async def sleep(self, seconds: float) -> None:
        """Wait; httpcore asks for it."""
        await asyncio.sleep(seconds)

    async def _allowed(self, host: str, port: int, deadline: float) -> list[str]:
        literal = literal_address(host)
        addresses = [literal] if literal is not None else await self._resolved(host, port, deadline)
        refused = self._hosts.first_refused(self._scheme, host, port, addresses)
        if refused is not None:
            raise LeadsInside(str(refused))
        return [str(address) for address in _alternating(addresses)[:_MAX_ADDRESSES]]

    async def _resolved(self, host: str, port: int, deadline: float) -> list[IPAddress]:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                texts = await self._resolver(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout("the name could not be resolved in time") from None
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name could not be resolved: {error}") from None
        addresses = [address for address in map(literal_address, dict.fromkeys(texts)) if address is not None]
        if not addresses:
            raise httpcore.ConnectError("the name leads to no address")
        return addresses


def parsed_proxy(address: str, context: ssl.SSLContext) -> httpcore.Proxy:
    """Return a proxy as httpcore takes it."""
    proxy, port = httpx.Proxy(address), urlsplit(address).port
    url = httpcore.URL(scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=port, target=b"/")
    tls = context if proxy.url.scheme == "https" else None
    return httpcore.Proxy(url, auth=proxy.raw_auth, ssl_context=tls)


def _alternating(addresses: Sequence[IPAddress]) -> list[IPAddress]:
    """Return addresses with their two families by turns."""
    # A worker without IPv6 may wait for each IPv6 address in vain: this way it costs one try, and not all of them.
    first = [address for address in addresses if address.version == addresses[0].version]
    second = [address for address in addresses if address.version != addresses[0].version]
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]
