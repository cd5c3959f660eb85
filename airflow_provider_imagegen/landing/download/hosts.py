"""Decide where a download may connect: how a URL is read, and which hosts and IP addresses are open to it.

The address of a result comes from the gateway, so it is untrusted input to a worker inside the user's network
(server-side request forgery). A gateway that is hostile, or that was broken into, could name the cloud's metadata
service and have its credentials landed in S3 as an "image".

Checking the host name is not enough: a name can resolve to a private address, and to another one a second later (DNS
rebinding). So ``network`` resolves a name once per connection, checks every address here, and connects to exactly
the address that was checked; ``redirects`` checks every hop. IPv6 addresses that carry an IPv4 address are judged by
that. Only hosts that the user listed (``private_result_hosts``), and the connection's own host, may be private.

Decisions only, without I/O.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import SplitResult, quote, urlsplit

from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.redaction import address_of, redacted

IPAddress = IPv4Address | IPv6Address

PORTS = {"http": 80, "https": 443}
"""Schemes that are fetched, and their usual ports."""

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        # Azure's metadata and DNS server stands among the public addresses.
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# Teredo, ORCHID and benchmarks share the first block; then documentation, 6to4, documentation.
_NOT_PUBLIC_V6 = tuple(IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
# What RFC 3986 lets stand in a path or query; a signature must arrive as it was written.
_UNQUOTED = "%/?:@!$&'()*+,;=~[]|"


def is_public(address: IPAddress) -> bool:
    """Return whether an address is globally reachable unicast, wherever Python's own tables stand.

    IPv6 addresses that carry an IPv4 address inside are judged by it (IPv4-mapped, NAT64) or refused
    (6to4, Teredo, IPv4-compatible, local NAT64): nobody serves images there.
    Source: IANA's special-purpose address registries.
    """
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _NOT_PUBLIC_V4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_UNICAST and not any(address in block for block in _NOT_PUBLIC_V6)


def literal_address(host: str) -> IPAddress | None:
    """Return the IP address that a host is, or ``None`` for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def normal_host(host: str) -> str:
    """Return the one spelling of a host: lower case, ASCII, no final dot, addresses as their own text.

    ``0x7f.1`` and ``2130706433`` become the address that the system's resolver would read them as.

    :raises ValueError: If it is neither a host name nor an address.
    """
    try:
        text = (host if host.isascii() else host.encode("idna").decode()).lower().removesuffix(".")
    except UnicodeError:
        raise ValueError("it names no host") from None
    address = literal_address(text)
    if address is not None:
        return str(address)
    if not _NAME.fullmatch(text):
        raise ValueError("it names no host")
    if _NUMBER.fullmatch(text):
        try:
            return str(IPv4Address(socket.inet_aton(text)))
        except OSError:
            raise ValueError("its host is a number that is no address") from None
    return text


def shown(url: str) -> str:
    """Return what may be shown of a URL, in one short line."""
    return redacted(address_of(url)).encode(errors="replace").decode()


@dataclass(frozen=True)
class Place:
    """A URL taken apart: exactly what is connected to and asked for.

    :param url: As it was given; never shown.
    :param host: In its normal spelling.
    :param target: Path and query.
    """

    url: str
    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Take a URL apart; its user name and fragment are dropped.

        :raises ValueError: If it is none that may be fetched, with the reason.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # The standard library's own words quote user names.
            raise ValueError("it cannot be read") from None
        if parts.scheme not in PORTS:
            raise ValueError("only http and https addresses are fetched")
        if port == 0:
            raise ValueError("its port is 0")
        host = normal_host(parts.hostname or "")
        return cls(url, parts.scheme, host, port or PORTS[parts.scheme], _target(parts))

    @property
    def authority(self) -> str:
        """Host and port as the ``Host`` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def _target(parts: SplitResult) -> str:
    path, query = (quote(part, safe=_UNQUOTED, errors="surrogateescape") for part in (parts.path, parts.query))
    return f"{path or '/'}?{query}" if query else path or "/"


@dataclass(frozen=True)
class ResultHosts:
    """Which hosts results may come from: all public ones, and those the connection names.

    :param own: The connection's own host; it may be private, at the port of the connection.
    :param own_port: That port.
    :param names: Host names that may be private.
    :param networks: Private addresses that may be connected to, whatever name leads there.
    """

    own: str
    own_port: int
    names: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]

    @classmethod
    def of(cls, settings: GatewaySettings) -> Self:
        """Read them from a connection."""
        names, networks = set(), []
        for entry in settings.private_result_hosts:
            try:
                networks.append(ip_network(entry, strict=False))
            except ValueError:
                names.add(_normal_or_as_is(entry))
        base = urlsplit(settings.base_url)
        port = base.port or PORTS.get(base.scheme, 0)
        return cls(_normal_or_as_is(settings.host), port, frozenset(names), tuple(networks))

    def exempts(self, host: str, port: int, addresses: Iterable[IPAddress]) -> bool:
        """Return whether a host may have these addresses, whatever they are.

        The connection's own host may not be link-local all the same: that is where clouds keep their secrets.
        """
        if host in self.names:
            return True
        return (host, port) == (self.own, self.own_port) and not any(found.is_link_local for found in addresses)

    def lists(self, host: str) -> bool:
        """Return whether the user listed a host, by name or by address."""
        address = literal_address(host)
        return host in self.names or (address is not None and self._is_listed(address))

    def first_refused(self, addresses: Iterable[IPAddress]) -> IPAddress | None:
        """Return the first address that must not be connected to.

        A name that leads outside and inside at once is an attack: callers refuse it for one such address.
        """
        return next((found for found in addresses if not (is_public(found) or self._is_listed(found))), None)

    def _is_listed(self, address: IPAddress) -> bool:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)


def _normal_or_as_is(host: str) -> str:
    try:
        return normal_host(host)
    except ValueError:
        return host.lower()
