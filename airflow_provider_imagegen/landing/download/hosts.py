"""The download guard's decisions: how a URL is read, and which hosts and addresses a download may connect to.

The URL of a result comes from the gateway, so it is untrusted input to a worker inside the user's network
(server-side request forgery). A gateway that is hostile, or that was broken into, could name the cloud's metadata
service, whose response holds credentials, or any admin page that trusts its own network.

=================================  =====================================================================
attack                             what stops it
=================================  =====================================================================
a private address as the URL       every address is checked right before it is connected to
``0x7f.1``, ``①②⑦.0.0.1``, …        one spelling of a host, before anything is decided (:func:`normal_host`)
a name that resolves there         the name is resolved here, and all its addresses are checked
a name that changes (rebinding)    the connection goes to the very address that was checked (``network``)
IPv6 around an IPv4 address        it is judged by the IPv4 address, or refused (:func:`is_public`)
a redirect to any of these         redirects are followed here, each as strictly checked as the first URL
a host that collects tokens        no header of the connection is sent to a result host (``download``)
=================================  =====================================================================

The tempting alternative, a list of good or bad host names checked once before the request, stops only the first row:
HTTP clients resolve the name again, and follow redirects without asking. Result hosts also change without notice,
so a list of good ones would lose paid images.

Private are only hosts that the user listed (``private_result_hosts``) and the connection's own host, with its own
scheme and port: a self-hosted gateway serves its results itself. An address where clouds serve credentials is refused
there too, and in a network that is listed; only listed by itself it is allowed. Decisions only, without I/O.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from airflow_provider_imagegen.exceptions import DownloadFailed
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.redaction import address_of, redacted

IPAddress = IPv4Address | IPv6Address

PORTS = {"http": 80, "https": 443}
"""Schemes that are fetched, and their usual ports."""
MAX_REDIRECTS = 3

# Python calls these global, or does so in some of its versions (IANA's special-purpose address registries).
_NOT_PUBLIC = tuple(
    ip_network(block)
    for block in (
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays, which deliver to an address of the sender's choice
        "224.0.0.0/4",
        "2001::/23",  # Teredo among others, which hides an IPv4 address
        "2002::/16",  # 6to4, which does too
        "3fff::/20",
    )
)
# Anything outside is local, multicast, or carries an IPv4 address in a way that nobody serves images from.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_ENDING_IN_IPV4 = tuple(map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")))
# Where clouds serve credentials: link-local addresses, and those of Azure, Alibaba and Oracle, AWS, Google and Oracle.
_METADATA: tuple[IPv4Network | IPv6Network, ...] = (
    *map(IPv4Network, ("169.254.0.0/16", "168.63.129.16", "100.100.100.200", "192.0.0.192")),
    *map(IPv6Network, ("fe80::/10", "fd00:ec2::/32", "fd20:ce::254", "fd00:c1::a9fe:a9fe")),
)

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
# All that RFC 3986 lets stand: a signature over the URL counts only if it arrives as it was written.
_UNQUOTED = "%/?:@!$&'()*+,;=~[]|"


def is_public(address: IPAddress) -> bool:
    """Return whether an address is globally reachable unicast.

    IPv6 addresses that carry an IPv4 address are judged by it (IPv4-mapped, NAT64) or refused (6to4, Teredo,
    IPv4-compatible, local NAT64).
    """
    address = _unmapped(address)
    if isinstance(address, IPv6Address):
        if address.scope_id is None and address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.scope_id is not None or address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not any(address in block for block in (*_NOT_PUBLIC, *_METADATA))


def _unmapped(address: IPAddress) -> IPAddress:
    # The system connects to the IPv4 address inside, whatever Python says about the IPv6 address around it.
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def serves_credentials(address: IPAddress) -> bool:
    """Return whether an address, or one that it carries, is where a cloud serves credentials to its machines."""
    carried: list[IPAddress] = [address]
    if isinstance(address, IPv6Address):
        known = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()))
        carried += [inner for inner in known if inner is not None]
        if any(address in block for block in _ENDING_IN_IPV4):
            carried.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return any(inner in block for inner in carried for block in _METADATA)


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
    """A URL taken apart: exactly what is connected to and requested; the URL itself is never shown."""

    url: str
    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str, base: str = "") -> Self:
        """Take a URL apart, without user name and fragment; a ``ValueError`` says why it may not be fetched."""
        try:
            url = urljoin(base, url)
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # The standard library's messages quote user names and passwords.
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
class Hop:
    """One request of a download: for the result's URL, or for where a redirect leads."""

    start: str
    place: Place
    number: int = 0

    @classmethod
    def first(cls, url: str) -> Self:
        """Return the hop to the result's URL."""
        try:
            return cls(url, Place.of(url))
        except ValueError as error:
            raise DownloadFailed(f"{shown(url)} is no address to fetch from: {error}") from None

    def __str__(self) -> str:
        if not self.number:
            return shown(self.start)
        return f"{shown(self.start)}, redirected to {shown(self.place.url)} (redirect {self.number}),"

    def redirected(self, location: str, allow_insecure: bool) -> Self:
        """Return the next hop."""
        if self.number == MAX_REDIRECTS:
            raise DownloadFailed(f"{shown(self.start)} redirects more than {MAX_REDIRECTS} times")
        try:
            place = Place.of(location, self.place.url)
        except ValueError as error:
            raise DownloadFailed(f"{self} redirects to no address to fetch from: {error}") from None
        if (self.place.scheme, place.scheme) == ("https", "http") and not allow_insecure:
            raise DownloadFailed(
                f"{self} redirects from https to {shown(place.url)}, which anybody on the way can read and change: "
                "set the connection's allow_insecure_results if it is meant to"
            )
        return replace(self, place=place, number=self.number + 1)


@dataclass(frozen=True)
class ResultHosts:
    """Hosts that results may come from: all public ones, and those that the connection names.

    :param own: Scheme, host and port of the connection; they may lead to a private address.
    :param networks: Private addresses that may be connected to, whatever name leads there.
    """

    own: tuple[str, str, int]
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
        own = (base.scheme, _normal_or_as_is(settings.host), base.port or PORTS.get(base.scheme, 0))
        return cls(own, frozenset(names), tuple(networks))

    def first_refused(self, scheme: str, host: str, port: int, addresses: Iterable[IPAddress]) -> IPAddress | None:
        """Return the first address of a host that must not be connected to.

        A name that leads outside and inside at once is an attack: callers refuse it for one such address.
        """
        if host in self.names:
            return None
        is_own = (scheme, host, port) == self.own
        for address in addresses:
            if not (self._is_listed(address) or is_public(address) or (is_own and not serves_credentials(address))):
                return address
        return None

    def lists(self, host: str) -> bool:
        """Return whether the user listed a host, by name or by address."""
        address = literal_address(host)
        return host in self.names or (address is not None and self._is_listed(address))

    def _is_listed(self, address: IPAddress) -> bool:
        address = _unmapped(address)
        blocks = [block for block in self.networks if address in block]
        # A network such as fd00::/8 is listed for what else it holds.
        return any(block.num_addresses == 1 or not serves_credentials(address) for block in blocks)


def _normal_or_as_is(host: str) -> str:
    try:
        return normal_host(host)
    except ValueError:
        return host.lower()
