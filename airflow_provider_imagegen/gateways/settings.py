"""Settings of an Airflow connection of type ``imagegen``, checked and typed; without Airflow and HTTP.

The hook fills them from a connection; a plain script fills them by hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from airflow_provider_imagegen.catalog.price_list import OPENAI, USD, PriceList, vendor_of
from airflow_provider_imagegen.catalog.prices import Price, read_prices
from airflow_provider_imagegen.exceptions import ConfigurationError

DEFAULT_MAX_IN_FLIGHT = 10
DEFAULT_VISIBILITY_GRACE = 60.0
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*\.?")
# With a second slash or an "@" a path would lead to another host, and the token with it.
_PATH = re.compile(r"/(?![/\\])[\w./~%:+-]*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Where a gateway is and how to speak to it.

    :param base_url: Scheme, host and optional path prefix, e.g. ``https://api.acedata.cloud``.
    :param token: The API token.
    :param gateway: The gateway's registered name; ``None`` lets the host decide.
    :param account: Name of the account that is billed, which stands for the base URL in ledger keys.
    :param submit_path: Path of the generation call, if not the gateway's usual one.
    :param tasks_path: Path of the task lookup, if not the gateway's usual one.
    :param timeout: Seconds until a response must begin, and that of a lookup be whole; ``None`` leaves it to the
        gateway.
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
    account: str | None = None
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
    def account_digest(self) -> str:
        """A short digest by which the account that is billed is known again, without telling the token."""
        return hashlib.sha256(f"imagegen {self.account or self.base_url} {self.token}".encode()).hexdigest()[:12]

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
        base_url, token = _base_url(name, host, scheme, port), _token(name, token)
        return cls(base_url=base_url, token=token, name=name, **dict(_read_extra(name, extra)))


def _base_url(name: str, host: str | None, scheme: str | None, port: int | None) -> str:
    if not host:
        raise ConfigurationError(f"{name} has no host: it must hold the gateway's base URL")
    address = host if "://" in host or scheme not in {"http", "https"} else f"{scheme}://{host}"
    try:
        parts = urlsplit(address)
        has_port = parts.port is not None
    except ValueError:
        # Neither the host nor the reason is shown: both may quote a password.
        raise ConfigurationError(f"{name} has a host that cannot be read as a base URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        shown = host if _HOST_NAME.fullmatch(host) else "api.example.com/v1"
        raise ConfigurationError(
            f"{name} has a host that is not a base URL: write the scheme too, e.g. https://{shown}"
        )
    # An "@" alone is user info too: httpx would send it as a login, in place of the token.
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            f"{name} has a host with a user name, query or fragment: only scheme, host and path are allowed"
        )
    netloc = f"{parts.netloc}:{port}" if port and not has_port else parts.netloc
    return _normalized(f"{parts.scheme}://{netloc}{parts.path}")


def _normalized(account: str) -> str:
    """Return an address in one of its spellings, because ledger keys depend on it; anything else as it is."""
    scheme, has_scheme, rest = account.partition("://")
    if not has_scheme:
        return account
    netloc, _, path = rest.rstrip("/").partition("/")
    default = {"http": ":80", "https": ":443"}.get(scheme.lower(), "")
    netloc = netloc.lower().removesuffix(":").removesuffix(default)
    return f"{scheme.lower()}://{netloc}{f'/{path}' if path else ''}"


def _token(name: str, token: str | None) -> str:
    stripped = (token or "").strip()
    if not stripped:
        raise ConfigurationError(f"{name} has no password: it must hold the API token")
    if not stripped.isascii() or not stripped.isprintable():
        raise ConfigurationError(f"{name} has a password with characters that no HTTP header may carry")
    return stripped


def _is_header(name: Any, value: Any) -> bool:
    is_text = isinstance(name, str) and isinstance(value, str)
    return is_text and _HEADER_NAME.fullmatch(name) is not None and value.isascii() and value.isprintable()


def _are_headers(value: object) -> bool:
    return not value or (isinstance(value, Mapping) and all(_is_header(*header) for header in value.items()))


def _is_host(text: str) -> bool:
    if _HOST_NAME.fullmatch(text):
        return True
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def is_proxy(address: str) -> bool:
    """Return whether an address is that of an http or https proxy."""
    try:
        parts = urlsplit(address)
        # With a "#" or "/" in its password, the host would be the user name.
        is_whole = address.isprintable() and parts.path in {"", "/"} and not parts.query and not parts.fragment
        return is_whole and parts.scheme in {"http", "https"} and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        return False


def _only_if(is_right: Callable[[Any], object]) -> Callable[[Any], Any]:
    """Return a validator that passes on what is right; the field's description says what would be."""

    def check(value: Any) -> Any:
        if not is_right(value):
            raise ValueError
        return value

    return check


def _flag(value: object) -> object:
    # Connections in environment variables have texts only.
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


# Pydantic would take true for 1.
_NoFlag = BeforeValidator(_only_if(lambda value: not isinstance(value, bool)))
_Flag = Annotated[StrictBool, BeforeValidator(_flag)]
_Number = Annotated[float, Field(gt=0, allow_inf_nan=False), _NoFlag]
_Path = Annotated[StrictStr, AfterValidator(_only_if(_PATH.fullmatch))]
_Headers = Annotated[
    dict[str, str], BeforeValidator(lambda value: value or {}), BeforeValidator(_only_if(_are_headers))
]
_Currency = Annotated[StrictStr, Field(pattern=r"^[A-Za-z]{3,12}$"), AfterValidator(str.upper)]

_NUMBER = "a number above 0"
_A_PATH = "a path that starts with one '/', without query, spaces or '@'"


class _Extra(BaseModel):
    """Fields of the connection's extra; descriptions are what errors say was expected. Unknown fields are ignored."""

    gateway: StrictStr | None = Field(None, description="a text")
    account: Annotated[StrictStr, AfterValidator(_normalized)] | None = Field(None, description="a text")
    submit_path: _Path | None = Field(None, description=_A_PATH)
    tasks_path: _Path | None = Field(None, description=_A_PATH)
    timeout: _Number | None = Field(None, description=_NUMBER)
    headers: _Headers = Field({}, description="an object of header names and one-line texts")
    max_in_flight: Annotated[int, Field(gt=0), _NoFlag] = Field(
        DEFAULT_MAX_IN_FLIGHT, description="a whole number above 0"
    )
    visibility_grace: _Number = Field(DEFAULT_VISIBILITY_GRACE, description=_NUMBER)
    private_result_hosts: tuple[str, ...] = ()
    allow_insecure_results: _Flag = Field(False, description="true or false")
    verify: Annotated[StrictBool | StrictStr, BeforeValidator(_flag)] = Field(
        True, description="true, false or the path of a CA bundle"
    )
    proxy: Annotated[StrictStr, AfterValidator(_only_if(is_proxy))] | None = Field(
        None, description="an address like http://proxy.example:3128"
    )
    prices: dict[str, Any] = {}
    currency: _Currency = Field(USD, description="a code like USD, of 3 to 12 letters")
    list_prices: _Flag | None = Field(None, description="true or false")

    @field_validator("private_result_hosts", mode="before")
    @classmethod
    def _read_hosts(cls, value: Any) -> tuple[str, ...]:
        listed = value.split(",") if isinstance(value, str) else value or ()
        if not isinstance(listed, list | tuple) or not all(isinstance(entry, str) for entry in listed):
            raise ValueError("a list of host names, or one text with commas")
        hosts = tuple(entry.strip().lower() for entry in listed if entry.strip())
        if not all(map(_is_host, hosts)):
            raise ValueError("host names, addresses and networks like 10.1.0.0/16, without scheme and port")
        return hosts

    @field_validator("prices", mode="before")
    @classmethod
    def _read_prices(cls, value: Any) -> dict[str, Price]:
        try:
            return read_prices(json.loads(value) if isinstance(value, str) else value)
        except json.JSONDecodeError:
            raise ValueError("an object of prices by model, or its JSON") from None

    @field_validator("list_prices")
    @classmethod
    def _check_list_prices(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("currency") != USD:
            raise ValueError(f"true only with currency {USD}, which list prices are in")
        return value


def _read_extra(name: str, extra: Mapping[str, Any]) -> _Extra:
    try:
        # The form stores a field that was left empty as an empty text.
        return _Extra.model_validate({key: value for key, value in extra.items() if value not in (None, "")})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    key = str(first["loc"][0])
    # These may hold passwords and keys, and so may an address with a user name.
    is_hidden = key in {"headers", "proxy", "prices"} or "@" in str(extra[key])
    shown = "" if is_hidden else f": {extra[key]!r}"
    expected = str(first.get("ctx", {}).get("error", "")) or _Extra.model_fields[key].description
    raise ConfigurationError(f'{name}: invalid extra "{key}"{shown} (expected {expected})')
