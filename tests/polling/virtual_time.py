"""An event loop whose time passes only when nothing is left to do, or when a test says that the loop stood still."""

from __future__ import annotations

import asyncio
import json
import math
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings


class _Selector(selectors.SelectSelector):
    """Does not wait for timers: it lets their time come."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time; nothing that runs on it may wait for sockets or threads."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def stand_still(self, seconds: float) -> None:
        """Do what a loop on a busy machine does: nothing, for a while."""
        self._clock.now += seconds


@dataclass
class SlowMachine:
    """A gateway seen from a process that gets little CPU; its tasks never finish unless configured.

    :param standstill: seconds for which the loop stands still at every response
    :param latency: seconds that the gateway takes
    :param asked: when there were lookups, of how many tasks
    :param ready: when tasks are finished, by id
    """

    standstill: float = 0.0
    latency: float = 0.005
    asked: list[tuple[float, int]] = field(default_factory=list)
    ready: dict[str, float] = field(default_factory=dict)

    async def respond(self, request: httpx.Request) -> httpx.Response:
        loop, body = running(), json.loads(request.content)
        ids = body.get("ids") or [body["id"]]
        self.asked.append((loop.time(), len(ids)))
        await asyncio.sleep(self.latency)
        loop.stand_still(self.standstill)
        items = [self._record(task_id, loop.time()) for task_id in ids]
        # Unread, as a response from the network is.
        body = json.dumps({"items": items, "count": len(items)}).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))

    def _record(self, task_id: str, now: float) -> dict[str, Any]:
        if now < self.ready.get(task_id, math.inf):
            return {"id": task_id, "response": None, "finished_at": None}
        return {"id": task_id, "response": {"data": [{"url": "http://gateway.example/0.png"}]}, "finished_at": now}

    def requests(self, start: float, end: float) -> list[int]:
        """Return of how many tasks each request was that began between two moments."""
        return [count for moment, count in self.asked if start <= moment < end]

    def client(self, monkeypatch: pytest.MonkeyPatch) -> ImageClient:
        """Return a client, not yet open, whose network is this object."""
        transport = httpx.MockTransport(self.respond)
        monkeypatch.setattr(httpx, "AsyncClient", partial(httpx.AsyncClient, transport=transport))
        settings = GatewaySettings(
            base_url="http://gateway.example", token="t", gateway="acedatacloud", timeout=1e6, visibility_grace=1e6
        )
        return ImageClient(settings)


def running() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)
