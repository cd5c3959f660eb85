"""Many waiters need few requests on a machine of any speed; in virtual time, independent of this machine."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import uuid

import pytest

from airflow_provider_imagegen.polling import PollSchedule, TaskPoller
from airflow_provider_imagegen.polling.schedule import TICKS_PER_INTERVAL
from tests.polling.virtual_time import SlowMachine, run, running

WAITERS, IDS_PER_REQUEST = 1000, 100
INTERVAL = 5.0
STANDSTILLS = [0.0, pytest.param(0.02, marks=pytest.mark.full), 0.3]
"""Seconds: a quiet machine, a busy one, one that hardly moves."""


async def wait_for_one(poller: TaskPoller, seconds: float) -> None:
    now = running().time()
    await poller.wait([str(uuid.uuid4())], until=now + seconds, submitted_at=now)


class Crowd:
    """Waiters who come one after the other.

    :param apart: seconds between two of them, on average
    :param seconds: how long each waits
    """

    def __init__(self, machine: SlowMachine, monkeypatch: pytest.MonkeyPatch, *, apart: float, seconds: float) -> None:
        self.machine = machine
        self.apart = apart
        self.seconds = seconds
        self.client = machine.client(monkeypatch)
        self.begun = self.complete = 0.0

    async def wait(self, intervals: int) -> None:
        """Let all come, and then some intervals pass."""
        dice = random.Random(1)
        async with self.client:
            loop, poller = running(), TaskPoller(self.client, PollSchedule(interval=INTERVAL), running().time)
            self.begun = loop.time()
            waits = []
            for _ in range(WAITERS):
                waits.append(asyncio.create_task(wait_for_one(poller, self.seconds)))
                await asyncio.sleep(2 * self.apart * dice.random())
                loop.stand_still(self.machine.standstill / 100)
            self.complete = loop.time()
            await asyncio.sleep(intervals * INTERVAL)
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def requests(self, interval: int) -> list[int]:
        """Return the sizes of the requests of one interval since all had come."""
        start = self.complete + interval * INTERVAL
        return self.machine.requests(start, start + INTERVAL)


@pytest.mark.parametrize("standstill", STANDSTILLS)
class TestAThousandWaiters:
    def test_who_came_one_by_one_are_looked_up_together(
        self, monkeypatch: pytest.MonkeyPatch, standstill: float
    ) -> None:
        crowd = Crowd(SlowMachine(standstill), monkeypatch, apart=0.005, seconds=1e6)
        run(crowd.wait(12))
        for interval in range(3, 12):
            assert crowd.requests(interval) == [IDS_PER_REQUEST] * (WAITERS // IDS_PER_REQUEST)

    def test_are_few_requests_while_they_come(self, monkeypatch: pytest.MonkeyPatch, standstill: float) -> None:
        machine = SlowMachine(standstill)
        crowd = Crowd(machine, monkeypatch, apart=0.05, seconds=1e6)
        run(crowd.wait(0))
        requests = machine.requests(crowd.begun, crowd.complete)
        ticks = math.ceil((crowd.complete - crowd.begun) / INTERVAL * TICKS_PER_INTERVAL) + 1
        assert len(requests) <= sum(requests) / IDS_PER_REQUEST + ticks

    def test_are_few_requests_while_their_deadlines_pass(
        self, monkeypatch: pytest.MonkeyPatch, standstill: float
    ) -> None:
        crowd = Crowd(SlowMachine(standstill), monkeypatch, apart=0.05, seconds=60.0)
        run(crowd.wait(24))
        for interval in range(24):
            requests = crowd.requests(interval)
            assert len(requests) <= sum(requests) / IDS_PER_REQUEST + TICKS_PER_INTERVAL + 1
        assert crowd.requests(23) == []


class TestOneWaiter:
    def test_is_looked_up_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        machine = SlowMachine()
        client = machine.client(monkeypatch)

        async def wait() -> None:
            async with client:
                start = running().time()
                await wait_for_one(TaskPoller(client, PollSchedule(interval=INTERVAL), running().time), 0.0)
                assert machine.asked == [(start, 1)]

        run(wait())

    def test_is_looked_up_once_an_interval(self, monkeypatch: pytest.MonkeyPatch) -> None:
        machine = SlowMachine()
        client = machine.client(monkeypatch)

        async def wait() -> None:
            async with client:
                await wait_for_one(TaskPoller(client, PollSchedule(interval=INTERVAL), running().time), 100.0)

        run(wait())
        moments = [moment for moment, _ in machine.asked]
        apart = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert apart[3:-1] == pytest.approx([INTERVAL] * len(apart[3:-1]))
        assert all(pause >= INTERVAL / 2 - INTERVAL / TICKS_PER_INTERVAL for pause in apart[:-1])
