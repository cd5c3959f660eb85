"""HTTP requests to the gallery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.gallery.addresses import PREFIX
from airflow_provider_imagegen.gallery.lazy import Gallery
from airflow_provider_imagegen.plugins.imagegen import ImageGenPlugin


def pages_of(client: httpx.Client, path: str, **params: Any) -> Iterator[dict[str, Any]]:
    """Ask for page after page; slow machines get many."""
    while True:
        page = client.get(f"{PREFIX}/{path}", params=params).raise_for_status().json()
        yield page
        if page["after"] is None:
            return
        params["after"] = page["after"]


def listed(client: httpx.Client, path: str, **params: Any) -> list[dict[str, Any]]:
    """Return all cards."""
    return [card for page in pages_of(client, path, **params) for card in page["cards"]]


def address(card: dict[str, Any], kind: str = "") -> str:
    return f"{PREFIX}/{card['address']}{kind}?{card['version']}"


def short(card: dict[str, Any]) -> tuple[Any, ...]:
    mapped = "" if card["map_index"] < 0 else f"[{card['map_index']}]"
    return (card["kind"], f"{card['task_id']}{mapped}", card.get("row"), card.get("index"))


def restart_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the gallery of this process read its configuration again, and forget what it has seen."""
    gallery = ImageGenPlugin.fastapi_apps[0]["app"]
    assert isinstance(gallery, Gallery)
    monkeypatch.setattr(gallery, "_application", None)
