"""Hundreds of waiters at one poller, gateways that record their lookups, and tasks to wait for."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway
from airflow_provider_imagegen.gateways.base import Handle
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.polling import PollSchedule, Seen, TaskPoller
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask
from tests.stack.waiting import HANG

QUICK = PollSchedule(interval=0.2, slowest=0.4)


class RecordingGateway(AceDataCloudGateway):
    """The usual gateway, which notes when it was asked for what, and how many lookups were under way at once."""

    def __init__(self, settings: GatewaySettings) -> None:
        super().__init__(settings)
        self.asked: list[tuple[float, list[str]]] = []
        self.under_way = self.peak = 0

    def look_up(self, keys: Sequence[str], by: Handle = "id") -> httpx.Request:
        self.asked.append((time.monotonic(), list(keys)))
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        return super().look_up(keys, by)

    def read_looked_up(self, response: httpx.Response, keys: Sequence[str], by: Handle = "id") -> dict[str, ImageTask]:
        self.under_way -= 1
        return super().read_looked_up(response, keys, by)


class SingleGateway(RecordingGateway):
    """A gateway that shows one task per lookup."""

    capabilities = dataclasses.replace(AceDataCloudGateway.capabilities, ids_per_look_up=1)


class FragileGateway(RecordingGateway):
    """A third party's gateway that cannot read the record of one task."""

    unreadable = ""

    def read_looked_up(self, response: httpx.Response, keys: Sequence[str], by: Handle = "id") -> dict[str, ImageTask]:
        tasks = super().read_looked_up(response, keys, by)
        if self.unreadable in tasks:
            raise KeyError("a field that it thought was always there")
        return tasks


@pytest.fixture
async def client(settings: GatewaySettings) -> AsyncIterator[ImageClient]:
    async with ImageClient(settings) as opened:
        yield opened


@pytest.fixture
def gateway(client: ImageClient) -> RecordingGateway:
    recording = RecordingGateway(client.settings)
    client.gateway = recording
    return recording


async def submitted(client: ImageClient, count: int) -> list[str]:
    places = asyncio.Semaphore(20)

    async def submit(number: int) -> str:
        async with places:
            task = await client.submit(ImageRequest(prompt=f"kite {number}", model="gpt-image-1"), str(uuid.uuid4()))
        assert task.task_id
        return task.task_id

    return list(await asyncio.gather(*(submit(number) for number in range(count))))


def unknown(count: int) -> list[str]:
    """Ids of tasks that are not shown yet: they are waited for."""
    return [str(uuid.uuid4()) for _ in range(count)]


def waiting(poller: TaskPoller, task_id: str, seconds: float = HANG, **options: Any) -> asyncio.Task[Seen]:
    now = time.time()
    return asyncio.create_task(poller.wait([task_id], until=now + seconds, submitted_at=now, **options))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def states(results: Sequence[Seen]) -> set[str]:
    return {task.state for seen in results for task in seen.tasks.values()}


async def all_done(poller: TaskPoller, task_ids: list[str]) -> None:
    results = await asyncio.gather(*(waiting(poller, task_id) for task_id in task_ids))
    assert states(results) == {"succeeded"}
