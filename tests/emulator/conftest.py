"""One running emulator per module, wiped before each test, with a clock that tests turn themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.emulator import EmulatorSettings, Latency, RunningEmulator
from tests.stack.waiting import HANG

LATENCY = 10.0
PROMPT = "a lighthouse in a storm"


class Clock:
    """Unix seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Client:
    """An HTTP client of the emulator for tests."""

    def __init__(self, emulator: RunningEmulator, clock: Clock) -> None:
        self.emulator = emulator
        self.clock = clock
        self.http = httpx.Client(
            base_url=emulator.base_url,
            headers={"authorization": f"Bearer {emulator.token}"},
            timeout=HANG,
            trust_env=False,
        )

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def submit(self, **body: Any) -> str:
        """Submit asynchronously; return the task id."""
        body = {"prompt": PROMPT, "model": "gpt-image-1", "size": "64x64", "async": True, **body}
        response = self.post("/openai/images/generations", **body)
        assert response.status_code == 200, response.text
        return str(response.json()["task_id"])

    def look_up(self, **query: Any) -> dict[str, Any]:
        record: dict[str, Any] = self.post("/openai/tasks", **query).json()
        return record

    def finished_url(self, **body: Any) -> str:
        """Submit, let the time pass, and return the result's URL."""
        task_id = self.submit(**body)
        self.clock.advance(LATENCY)
        return str(self.look_up(id=task_id)["response"]["data"][0]["url"])

    def totals(self) -> dict[str, int]:
        return self.emulator.totals()


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def running(clock: Clock) -> Iterator[RunningEmulator]:
    settings = EmulatorSettings(latency=Latency(LATENCY, LATENCY), token="sesame", preview_share=0)
    with RunningEmulator(settings, clock=clock) as emulator:
        yield emulator


@pytest.fixture
def emulator(running: RunningEmulator) -> RunningEmulator:
    running.reset()
    return running


@pytest.fixture
def client(emulator: RunningEmulator, clock: Clock) -> Iterator[Client]:
    client = Client(emulator, clock)
    yield client
    client.http.close()


@pytest.fixture
def prompt_client(client: Client) -> Client:
    """A client of an emulator without latency."""
    client.emulator.change(latency=0)
    return client
