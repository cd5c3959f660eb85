"""The client beyond one call: what it leaves on the disk while it lives."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings

IMAGE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(9000)).decode()


@pytest.fixture
async def client(record: dict[str, Any]) -> AsyncIterator[ImageClient]:
    """A client of a gateway that has one task."""
    body = json.dumps({"items": [record], "count": 1}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = GatewaySettings(base_url=f"http://127.0.0.1:{port}", token="t", gateway="acedatacloud")
        async with ImageClient(settings) as opened:
            yield opened


class TestImagesInLookUps:
    @pytest.mark.parametrize(
        ("record", "state", "files"),
        [
            ({"id": "t1", "response": {"data": [{"b64_json": IMAGE}]}, "finished_at": None}, "running", 0),
            ({"id": "t1", "response": {"data": [{"b64_json": IMAGE}]}, "finished_at": 1.0}, "succeeded", 1),
        ],
    )
    async def test_stay_on_the_disk_only_if_somebody_holds_them(
        self, client: ImageClient, state: str, files: int
    ) -> None:
        tasks = await client.look_up(["t1"])
        assert tasks["t1"].state == state
        assert len(list(client._images.iterdir())) == files
