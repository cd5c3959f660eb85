"""What the tests ask the gallery over HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from airflow_provider_imagegen.gallery.addresses import PREFIX


def listed(client: httpx.Client, path: str, **params: Any) -> list[dict[str, Any]]:
    """Return all cards, page by page."""
    cards: list[dict[str, Any]] = []
    while True:
        page = client.get(f"{PREFIX}/{path}", params=params).raise_for_status().json()
        cards += page["cards"]
        if page["after"] is None:
            return cards
        params["after"] = page["after"]


def address(card: dict[str, Any], kind: str = "") -> str:
    return f"{PREFIX}/{card['address']}{kind}?{card['version']}"


def short(card: dict[str, Any]) -> tuple[Any, ...]:
    mapped = "" if card["map_index"] < 0 else f"[{card['map_index']}]"
    return (card["kind"], f"{card['task_id']}{mapped}", card.get("row"), card.get("index"))
