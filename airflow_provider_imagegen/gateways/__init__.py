"""The gateways by name, as registered through the entry point group ``airflow_provider_imagegen.gateways``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from airflow_provider_imagegen.exceptions import ConfigurationError
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.gateways.settings import GatewaySettings

ENTRY_POINT_GROUP = "airflow_provider_imagegen.gateways"


@cache
def registered_gateways() -> dict[str, type[Gateway]]:
    """Return all gateway classes by name, installed ones of third parties included."""
    # Our own are registered the same way, so that nothing works for them that does not work for others.
    return {entry.name: entry.load() for entry in entry_points(group=ENTRY_POINT_GROUP)}


def gateway_for(settings: GatewaySettings) -> Gateway:
    """Return the gateway that a connection names, or that its host belongs to."""
    known = registered_gateways()
    names = ", ".join(sorted(known))
    if settings.gateway is not None:
        if settings.gateway not in known:
            raise ConfigurationError(
                f'{settings.name}: invalid extra "gateway": {settings.gateway!r} (expected one of {names})'
            )
        return known[settings.gateway](settings)
    for gateway in known.values():
        if settings.host in gateway.hosts:
            return gateway(settings)
    raise ConfigurationError(
        f"{settings.name}: cannot infer the gateway from host {settings.host!r}; "
        f'set the extra field "gateway" to one of {names}'
    )
