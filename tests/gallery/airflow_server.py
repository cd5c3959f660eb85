"""An ASGI application in place of Airflow's API, for values no Airflow stores, and what the gallery shows of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from airflow_provider_imagegen.gallery.airflow_api import AirflowApi
from airflow_provider_imagegen.gallery.asgi import Receive, Scope, Send
from airflow_provider_imagegen.gallery.cards import Wish
from airflow_provider_imagegen.gallery.listing import Listing
from airflow_provider_imagegen.gallery.reading import Reader
from airflow_provider_imagegen.gallery.store import Store

IMAGE = {
    "index": 0, "uri": "s3://b/k/0.png", "bucket": "b", "key": "k/0.png", "etag": "e", "version_id": None,
    "bytes": 1234, "sha256": "ab" * 32, "content_type": "image/png", "width": 1536, "height": 1024,
    "task_id": "t-1", "trace_id": "r-1", "revised_prompt": "A red hat",
    "cost": 0.04, "usage": {"total_tokens": 7},
}  # fmt: skip
MISSING = {"index": 1, "code": "moderation_blocked", "message": "refused", "billed": "no"}
GOOD: dict[str, Any] = {
    "version": 1, "gateway": "ace", "model": "m", "images": [IMAGE], "failures": [MISSING], "currency": "EUR",
    "usage": {"total_tokens": 7}, "fingerprint": "f", "created_at": "2026-01-01T00:00:00+00:00", "manifest_uri": "",
}  # fmt: skip


@dataclass
class AirflowServer:
    """An ASGI application that answers as Airflow's API does.

    :param runs: Run id → what its task returned, as the text that the API sends.
    """

    runs: dict[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, body = self.response(scope["path"], parse_qs(scope["query_string"].decode()))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body.encode("utf-8", "surrogatepass")})

    def response(self, path: str, query: dict[str, list[str]]) -> tuple[int, str]:
        segments = path.removeprefix("/api/v2/dags/").split("/")
        if segments[1:] == ["dagRuns"]:
            runs = ({"dag_id": "shop", "dag_run_id": run_id, "state": "success"} for run_id in self.runs)
            return 200, json.dumps(_page("dag_runs", [run | {"start_date": None} for run in runs], query))
        run_id = segments[2]
        if segments[1] != "dagRuns" or run_id not in self.runs:
            return 404, '{"detail": "no such run"}'
        if segments[3:] == ["taskInstances", "~", "xcomEntries"]:
            entry = {"dag_id": "shop", "run_id": run_id, "task_id": "draw", "map_index": -1, "timestamp": run_id}
            return 200, json.dumps(_page("xcom_entries", [entry], query))
        if segments[3:] == ["taskInstances", "draw", "xcomEntries", "return_value"]:
            return 200, f'{{"value": {self.runs[run_id]}}}'
        return 404, '{"detail": "not found"}'


def _page(name: str, items: list[dict[str, Any]], query: dict[str, list[str]]) -> dict[str, Any]:
    return {name: items[int(query["offset"][0]) :], "total_entries": len(items)}


def newest(runs: dict[str, str]) -> list[dict[str, Any]]:
    """Return the cards of the newest images, as the browser gets them."""

    async def listed() -> list[dict[str, Any]]:
        listing = Listing(AirflowApi(AirflowServer(runs), "", "token"), Reader(Store("aws_default")))
        page = await listing.of_newest(None, Wish(), None, 100)
        return [card.as_json() for card in page.cards]

    cards = asyncio.run(listed())
    # As JSONResponse does it.
    json.dumps(cards, ensure_ascii=False, allow_nan=False).encode()
    return cards
