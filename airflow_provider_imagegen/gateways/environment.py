"""The proxy to a host, as the connection or the environment names it; for calls to gateways and for downloads.

The environment is not left to httpx: it takes an IPv6 network in ``NO_PROXY`` for a broken URL (encode/httpx#3574),
and any other mistake is an error that names no variable.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_imagegen.exceptions import ConfigurationError
from airflow_provider_imagegen.gateways.settings import GatewaySettings, is_proxy


def proxy_to(url: str, settings: GatewaySettings) -> str | None:
    """Return the proxy through which a host is reached, of the settings or else the environment; or ``None``."""
    if settings.proxy is not None:
        return _checked(settings.proxy, f"extra proxy of {settings.name}")
    parts, proxies = urlsplit(url), getproxies()
    name = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(name)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    if not proxy or _is_excepted(parts.hostname or "", port, proxies.get("no", "")):
        return None
    return _checked(proxy if "://" in proxy else f"http://{proxy}", f"environment variable {name.upper()}_PROXY")


def _checked(address: str, source: str) -> str:
    if not is_proxy(address):
        advice = "Correct it: SOCKS is not supported, and special characters of a password must be percent-encoded."
        raise ConfigurationError(f"the {source} is no usable http or https address of a proxy", advice=advice)
    return address


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    """Return whether ``NO_PROXY`` has a host reached directly: its name, its address, or a network around that."""
    is_named = proxy_bypass(host) or proxy_bypass(f"{host}:{port}")
    return bool(is_named) or any(_contains(entry, host) for entry in no_proxy.split(","))


def _contains(entry: str, host: str) -> bool:
    try:
        return ip_address(host) in ip_network(entry.strip().strip("[]"), strict=False)
    except ValueError:
        return False
