"""What consumers of an asset learn about the images behind its event: the essentials of a manifest or summary."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_imagegen.schemas import Manifest
from airflow_provider_imagegen.schemas.batch import BatchSummary

if TYPE_CHECKING:
    from airflow.sdk.types import OutletEventAccessorsProtocol

log = logging.getLogger(__name__)

MAX_URIS = 20
"""Addresses of images that an event carries at most; the manifest has them all."""

_COUNTED_IMAGES = ("gateway", "model", "requested", "delivered", "billed", "reused", "fingerprint", "manifest_uri")
_COUNTED_ROWS = ("gateway", "rows", "landed", "failed", "unknown", "skipped", "images", "billed", "reused")


def add_asset_events(
    outlets: Iterable[object], events: OutletEventAccessorsProtocol, result: Manifest | BatchSummary
) -> None:
    """Put the essentials of what landed into the events of a task's outlets; without outlets, do nothing.

    An alias stands for the prefix that the images are under.
    """
    for outlet in outlets:
        if isinstance(outlet, Asset):
            events[outlet].extra.update(essentials(result))
        elif isinstance(outlet, AssetAlias) and (asset := _asset_of(result)) is not None:
            events[outlet].add(asset, extra=essentials(result))


def essentials(result: Manifest | BatchSummary) -> dict[str, Any]:
    """Return what consumers need to know of a result, small whatever its size."""
    if isinstance(result, BatchSummary):
        return result.model_dump(mode="json", include={*_COUNTED_ROWS, "manifest_uri"})
    # Extras are stored in Airflow's database and sent to every consumer: they stay small.
    uris = [image.uri for image in result.images[:MAX_URIS]]
    return {**result.model_dump(mode="json", include=set(_COUNTED_IMAGES)), "uris": uris}


def _asset_of(result: Manifest | BatchSummary) -> Asset | None:
    """Return the images' prefix as an asset; ``None`` if Airflow can hold no address as long as this one's."""
    prefix = result.manifest_uri.rpartition("/")[0]
    # Of a URI, a question mark or hash would be taken for the end of the path.
    uri = quote(prefix, safe="!$&'()*+,-./:;=@_~")
    try:
        return Asset(name=uri, uri=uri)
    except ValueError as error:
        log.warning("The asset %s cannot be announced: %s", prefix, error)
        return None
