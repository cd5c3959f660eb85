"""What an Airflow connection of type ``imagegen`` says, checked and typed; knows neither Airflow nor HTTP.

The hook fills it from a connection; a plain script fills it by hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_imagegen.catalog.list_prices import OPENAI, vendor_of
from airflow_provider_imagegen.catalog.price_list import USD, PriceList
from airflow_provider_imagegen.catalog.prices import Price, read_prices
from airflow_provider_imagegen.exceptions import ConfigurationError

DEFAULT_MAX_IN_FLIGHT = 10
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*\.?")
_CURRENCY = re.compile(r"[A-Za-z]{3,12}")
_PATH = re.compile(r"/(?![/\\])[\w./~%:+-]*", re.ASCII)
DEFAULT_VISIBILITY_GRACE = 60.0


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Where a gateway is and how to speak to it.

    :param base_url: Scheme, host and optional path prefix, e.g. ``https://api.acedata.cloud``.
    :param token: The API token.
    :param gateway: The gateway's registered name; ``None`` lets the host decide.
    :param submit_path: Path of the generation call, if not the gateway's usual one.
    :param tasks_path: Path of the task lookup, if not the gateway's usual one.
    :param timeout: Seconds to wait for bytes of a response; ``None`` leaves it to the gateway.
    :param headers: Headers to add to every call.
    :param max_in_flight: Requests to have running at once, at most.
    :param visibility_grace: Seconds a request that the gateway accepted may stay invisible to lookups.
    :param private_result_hosts: Host names, addresses and networks from which results may be fetched although
        they are not public; the gateway's own host needs no mention.
    :param allow_insecure_results: Whether a result's https address may redirect to http.
    :param verify: Whether to verify TLS certificates, or the path of a CA bundle.
    :param proxy: Proxy for calls to the gateway and for downloads, except from ``private_result_hosts``.
    :param prices: What images cost there, by model; they go before any list prices.
    :param currency: What ``prices`` and budgets are in.
    :param list_prices: Whether the gateway bills what the model's vendor lists; ``None`` lets the host decide.
    :param name: How errors call it, e.g. ``connection 'imagegen_default'``.
    """

    base_url: str
    token: str = field(repr=False)
    gateway: str | None = None
    submit_path: str | None = None
    tasks_path: str | None = None
    timeout: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    visibility_grace: float = DEFAULT_VISIBILITY_GRACE
    private_result_hosts: tuple[str, ...] = ()
    allow_insecure_results: bool = False
    verify: bool | str = True
    proxy: str | None = field(default=None, repr=False)
    prices: Mapping[str, Price] = field(default_factory=dict)
    currency: str = USD
    list_prices: bool | None = None
    name: str = "the connection"

    @property
    def host(self) -> str:
        """The gateway's host name, lower case, without port."""
        return urlsplit(self.base_url).hostname or ""

    @cached_property
    def price_list(self) -> PriceList:
        """What images cost there, as far as that is known."""
        vendor = OPENAI if self.list_prices else vendor_of(self.base_url) if self.list_prices is None else None
        return PriceList(self.prices, self.currency, vendor)

    @property
    def account(self) -> str:
        """A short digest by which the account that is billed is known again, without telling the token."""
        return hashlib.sha256(f"imagegen {self.base_url} {self.token}".encode()).hexdigest()[:12]

    @classmethod
    def from_fields(
        cls,
        *,
        name: str,
        host: str | None,
        scheme: str | None,
        port: int | None,
        token: str | None,
        extra: Mapping[str, Any],
    ) -> GatewaySettings:
        """Read the fields of an Airflow connection.

        :param name: How errors call the connection.
        :param host: Base URL; a bare host is accepted only together with ``scheme``.
        :param scheme: ``http`` or ``https`` where ``host`` does not say it.
        :param port: Port where ``host`` does not say it.
        :param token: The API token.
        :param extra: Further settings, see the class; unknown ones are ignored.
        :raises ConfigurationError: Naming the connection, the field, its value and what is allowed.
        """
        read = _Extra(name, extra)
        return cls(
            base_url=_base_url(name, host, scheme, port),
            token=_token(name, token),
            gateway=read.text("gateway"),
            submit_path=read.path("submit_path"),
            tasks_path=read.path("tasks_path"),
            timeout=read.number("timeout", above=0),
            headers=read.headers("headers"),
            max_in_flight=read.count("max_in_flight", DEFAULT_MAX_IN_FLIGHT),
            visibility_grace=read.number("visibility_grace", above=0) or DEFAULT_VISIBILITY_GRACE,
            private_result_hosts=read.hosts("private_result_hosts"),
            allow_insecure_results=read.flag("allow_insecure_results", default=False),
            verify=read.flag_or_text("verify", default=True),
            proxy=read.proxy("proxy"),
            prices=read.prices("prices"),
            currency=read.currency("currency"),
            list_prices=read.list_prices("list_prices"),
            name=name,
        )


def _base_url(name: str, host: str | None, scheme: str | None, port: int | None) -> str:
    if not host:
        raise ConfigurationError(f"{name} has no host: it must hold the gateway's base URL")
    address = host if "://" in host or scheme not in {"http", "https"} else f"{scheme}://{host}"
    try:
        parts = urlsplit(address)
        has_port = parts.port is not None
    except ValueError as error:
        raise ConfigurationError(f"{name} has host={host!r}, which is not a base URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            f"{name} has host={host!r}, which is not a base URL: write the scheme too, e.g. https://{host}"
        )
    if parts.query or parts.fragment or parts.username:
        raise ConfigurationError(
            f"{name} has a host with a user name, query or fragment: only scheme, host and path are allowed"
        )
    netloc = f"{parts.netloc}:{port}" if port and not has_port else parts.netloc
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"


def _token(name: str, token: str | None) -> str:
    stripped = (token or "").strip()
    if not stripped:
        raise ConfigurationError(f"{name} has no password: it must hold the API token")
    if not stripped.isascii() or not stripped.isprintable():
        raise ConfigurationError(f"{name} has a password with characters that no HTTP header may carry")
    return stripped


def _is_header(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and _HEADER_NAME.fullmatch(name) is not None
        and value.isascii()
        and value.isprintable()
    )


def _is_host(text: str) -> bool:
    if _HOST_NAME.fullmatch(text):
        return True
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class _Extra:
    """The connection's extra, read field by field, each with one clear refusal."""

    name: str
    values: Mapping[str, Any]

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value in (None, ""):
            return None
        if not isinstance(value, str):
            raise self._refusal(key, "a text")
        return value

    def number(self, key: str, above: float) -> float | None:
        value = self.values.get(key)
        if value in (None, ""):
            return None
        try:
            number = float(str(value))
        except ValueError:
            raise self._refusal(key, f"a number above {above}") from None
        if isinstance(value, bool) or not above < number < float("inf"):
            raise self._refusal(key, f"a number above {above}")
        return number

    def count(self, key: str, default: int) -> int:
        number = self.number(key, above=0)
        if number is not None and not number.is_integer():
            raise self._refusal(key, "a whole number above 0")
        return default if number is None else int(number)

    def path(self, key: str) -> str | None:
        value = self.text(key)
        if value is not None and not _PATH.fullmatch(value):
            raise self._refusal(key, "a path that starts with one '/', without query, spaces or '@'")
        return value

    def proxy(self, key: str) -> str | None:
        value = self.text(key)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            is_proxy = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_proxy = False
        if not is_proxy:
            # The value may hold a password.
            raise self._refusal(key, "an address like http://proxy.example:3128", shown=False)
        return value

    def headers(self, key: str) -> dict[str, str]:
        value = self.values.get(key) or {}
        if not isinstance(value, Mapping) or not all(_is_header(name, text) for name, text in value.items()):
            raise self._refusal(key, "an object of header names and one-line texts", shown=False)
        return {str(header): str(text) for header, text in value.items()}

    def hosts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key) or ()
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list | tuple) or not all(isinstance(entry, str) for entry in listed):
            raise self._refusal(key, "a list of host names, or one text with commas")
        hosts = tuple(entry.strip().lower() for entry in listed if entry.strip())
        if not all(_is_host(host) for host in hosts):
            raise self._refusal(key, "host names, addresses and networks like 10.1.0.0/16, without scheme and port")
        return hosts

    def prices(self, key: str) -> dict[str, Price]:
        value = self.values.get(key)
        if value in (None, ""):
            return {}
        try:
            return read_prices(json.loads(value) if isinstance(value, str) else value)
        except json.JSONDecodeError:
            raise self._refusal(key, "an object of prices by model, or its JSON", shown=False) from None
        except ValueError as error:
            raise self._refusal(key, str(error), shown=False) from None

    def currency(self, key: str) -> str:
        value = self.text(key) or USD
        if not _CURRENCY.fullmatch(value):
            raise self._refusal(key, "a code like USD, of 3 to 12 letters")
        return value.upper()

    def list_prices(self, key: str) -> bool | None:
        if self.values.get(key) in (None, ""):
            return None
        wanted = self.flag(key, default=False)
        if wanted and self.currency("currency") != USD:
            raise self._refusal(key, f"true only with currency {USD}, which list prices are in")
        return wanted

    def flag(self, key: str, default: bool) -> bool:
        value = self.flag_or_text(key, default)
        if not isinstance(value, bool):
            raise self._refusal(key, "true or false")
        return value

    def flag_or_text(self, key: str, default: bool) -> bool | str:
        value = self.values.get(key)
        if value in (None, ""):
            return default
        if isinstance(value, bool):
            return value
        if isinstance(value, str):
            return {"true": True, "false": False}.get(value.lower(), value)
        raise self._refusal(key, "true, false or the path of a CA bundle")

    def _refusal(self, key: str, allowed: str, shown: bool = True) -> ConfigurationError:
        value = f": {self.values[key]!r}" if shown else ""
        return ConfigurationError(f'{self.name}: invalid extra "{key}"{value} (expected {allowed})')
