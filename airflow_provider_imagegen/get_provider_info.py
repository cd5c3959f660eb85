"""Metadata of this package for Airflow's provider manager, without an import of its hooks."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

# The loader in pure Python takes several times as long, in every process that starts Airflow's provider manager.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in Airflow's ``provider_info`` schema: ``provider.yaml``, with all gateways."""
    text = Path(__file__).with_name("provider.yaml").read_text(encoding="utf-8")
    info: dict[str, Any] = yaml.load(text, _LOADER)  # noqa: S506 - both loaders are safe ones
    (connection,) = info["connection-types"]
    connection["conn-fields"]["gateway"]["schema"]["enum"] = [None, *_gateways()]
    return info


def _gateways() -> list[str]:
    # From the entry points, not from the gateways themselves, which import httpx and pydantic.
    return sorted({entry.name for entry in entry_points(group="airflow_provider_imagegen.gateways")})
