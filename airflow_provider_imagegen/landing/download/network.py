"""The ways to a result host, direct or through a proxy; every address is checked just before it is used.

``download`` asks :class:`Ways` for the connections of each hop.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, zip_longest
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

from airflow_provider_imagegen.gateways.client import CONNECT_TIMEOUT, tls_context
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing.download.hosts import IPAddress, Place, ResultHosts, literal_address

MAX_DOWNLOADS = 8
"""Downloads at once."""
LOOK_UP_BEFORE_PROXY = 3.0
"""Seconds to find out where a name leads before a proxy is asked for it."""
_MAX_ADDRESSES = 4

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the IP addresses of a host; raises ``OSError`` if there are none."""


class LeadsInside(Exception):
    """A host leads to an address that results must not come from.

    :param address: The address, as text.
    """

    def __init__(self, address: str) -> None:
        super().__init__(f"leads to {address}")
        self.address = address


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections to allowed addresses only.

    A name is resolved once per connection, all its addresses are checked, and the connection goes to one
    of these very addresses: a name that changes its mind in between (DNS rebinding) gains nothing.

    :param hosts: Which hosts and addresses are allowed.
    :param resolver: Finds addresses of names.
    :param dial: Opens the connections; it is only ever given IP addresses.
    """

    def __init__(self, hosts: ResultHosts, resolver: Resolver, dial: httpcore.AsyncNetworkBackend) -> None:
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
        """Connect to the first address of a host that answers.

        :raises LeadsInside: If any of its addresses is not allowed.
        :raises httpcore.ConnectError: If the name leads nowhere, or nobody answers.
        """
        deadline = time.monotonic() + (CONNECT_TIMEOUT if timeout is None else timeout)
        left = await self._candidates(host, port, deadline)
        while True:
            address = left.pop(0)
            share = (deadline - time.monotonic()) / (len(left) + 1)
            try:
                return await self._dial.connect_tcp(address, port, max(share, 0.0), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not left:
                    raise

    async def check(self, host: str, port: int) -> None:
        """Check a host that a proxy is about to be asked for; a name unknown here is the proxy's to resolve.

        :raises LeadsInside: If it is known here, and leads inside.
        """
        try:
            await self._candidates(host, port, time.monotonic() + LOOK_UP_BEFORE_PROXY)
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            return

    async def sleep(self, seconds: float) -> None:
        """Wait; httpcore asks for it."""
        await asyncio.sleep(seconds)

    async def _candidates(self, host: str, port: int, deadline: float) -> list[str]:
        literal = literal_address(host)
        addresses = [literal] if literal is not None else await self._resolved(host, port, deadline)
        refused = None if self._hosts.exempts(host, port, addresses) else self._hosts.first_refused(addresses)
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
        addresses = [literal_address(text) for text in dict.fromkeys(texts)]
        if not addresses or None in addresses:
            raise httpcore.ConnectError("the name leads to no address")
        return [address for address in addresses if address is not None]


class Ways:
    """Connections for all hops of all downloads.

    Direct, unless the connection names a proxy or the environment does (``HTTPS_PROXY``, ``HTTP_PROXY``,
    ``ALL_PROXY``, ``NO_PROXY``); hosts of ``private_result_hosts`` are inside and always reached directly.
    A proxy connects on its own: addresses, and names that lead inside as seen from here, are refused
    before it is asked; names that cannot be resolved here are the proxy's to resolve and to refuse. The
    proxy's own address is exempt.

    :param settings: The gateway's connection.
    :param resolver: Finds addresses of names.
    :param dial: Opens the connections; by default httpcore's own way.
    """

    def __init__(
        self, settings: GatewaySettings, resolver: Resolver = resolve, dial: httpcore.AsyncNetworkBackend | None = None
    ) -> None:
        self._hosts = ResultHosts.of(settings)
        self._settings = settings
        self._dial = dial or httpcore.AnyIOBackend()
        self._network = CheckedNetwork(self._hosts, resolver, self._dial)
        self._pools: dict[str | None, httpcore.AsyncConnectionPool] = {}

    async def to(self, place: Place) -> httpcore.AsyncConnectionPool:
        """Return the connections to use for a place.

        :raises LeadsInside: If a proxy would be asked for an address inside.
        :raises ValueError: If the environment names a proxy that cannot be used.
        """
        proxy = None if self._hosts.lists(place.host) else self._settings.proxy or environment_proxy(place)
        if proxy is not None:
            await self._network.check(place.host, place.port)
        if proxy not in self._pools:
            self._pools[proxy] = self._direct() if proxy is None else self._through(proxy)
        return self._pools[proxy]

    async def aclose(self) -> None:
        """Close all connections."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.aclose()

    def _direct(self) -> httpcore.AsyncConnectionPool:
        context = tls_context(self._settings.verify)
        return httpcore.AsyncConnectionPool(context, max_connections=MAX_DOWNLOADS, network_backend=self._network)

    def _through(self, proxy: str) -> httpcore.AsyncConnectionPool:
        parts, context = urlsplit(proxy), tls_context(self._settings.verify)
        if not _is_usable(parts):
            # Nothing of it is shown: it may hold a password.
            raise ValueError("the proxy to go through is no usable http or https address")
        user, password = unquote_to_bytes(parts.username or ""), unquote_to_bytes(parts.password or "")
        return httpcore.AsyncHTTPProxy(
            proxy_url=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
            proxy_auth=(user, password) if user else None,
            ssl_context=context,
            proxy_ssl_context=context if parts.scheme == "https" else None,
            max_connections=MAX_DOWNLOADS,
            network_backend=self._dial,
        )


def _is_usable(proxy: SplitResult) -> bool:
    try:
        is_reachable = bool(proxy.hostname) and proxy.netloc.rpartition("@")[2].isascii() and proxy.port != 0
    except ValueError:
        return False
    return is_reachable and proxy.scheme in {"http", "https"}


def environment_proxy(place: Place) -> str | None:
    """Return the proxy that the environment names for a place."""
    proxies = getproxies()
    proxy = proxies.get(place.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(place.host) or proxy_bypass(f"{place.host}:{place.port}"):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _alternating(addresses: Sequence[IPAddress]) -> list[IPAddress]:
    """Return addresses with their two families by turns, so that one that leads nowhere costs one try."""
    first = [address for address in addresses if address.version == addresses[0].version]
    second = [address for address in addresses if address.version != addresses[0].version]
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]
