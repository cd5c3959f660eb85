"""Many waiters share few lookups, and a waiter that leaves does not affect the others."""

from __future__ import annotations

import asyncio
import time

import uvloop

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.polling import PollSchedule, Seen, TaskPoller
from airflow_provider_imagegen.polling.poller import SINGLE_CONCURRENCY
from tests.polling.conftest import (
    QUICK,
    RecordingGateway,
    SingleGateway,
    all_done,
    states,
    submitted,
    unknown,
    until,
    waiting,
)


class TestAThousandWaiters:
    async def test_share_lookups_of_a_hundred(self, emulator: RunningEmulator, client: ImageClient) -> None:
        poller = TaskPoller(client, PollSchedule(interval=1.0))
        results = await asyncio.gather(*(waiting(poller, task_id, 2.5) for task_id in unknown(1000)))
        assert states(results) == {"unseen"}
        totals = emulator.totals()
        assert totals["lookups"] >= 1000
        assert totals["lookup_requests"] <= totals["lookups"] / 90

    async def test_at_a_gateway_of_single_lookups_do_not_rush_it(self, client: ImageClient) -> None:
        client.gateway = gateway = SingleGateway(client.settings)
        poller = TaskPoller(client, PollSchedule(interval=30))
        await asyncio.gather(*(waiting(poller, task_id, 0.0) for task_id in unknown(100)))
        assert len(gateway.asked) == 100
        assert 10 < gateway.peak <= SINGLE_CONCURRENCY

    async def test_all_learn_what_became_of_their_tasks(self, emulator: RunningEmulator, client: ImageClient) -> None:
        emulator.change(latency="0.1-1")
        poller = TaskPoller(client, QUICK)
        task_ids = await submitted(client, 150)
        results = await asyncio.gather(*(waiting(poller, task_id) for task_id in task_ids))
        assert [list(seen.tasks) for seen in results] == [[task_id] for task_id in task_ids]
        assert states(results) == {"succeeded"}


class TestOnUvloop:
    def test_all_learn_what_became_of_their_tasks(self, emulator: RunningEmulator, settings: GatewaySettings) -> None:
        """Handles that are due immediately have no time."""

        async def wait_for_all() -> list[Seen]:
            async with ImageClient(settings) as client:
                poller = TaskPoller(client, QUICK)
                task_ids = await submitted(client, 50)
                return await asyncio.gather(*(waiting(poller, task_id) for task_id in task_ids))

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert states(runner.run(wait_for_all())) == {"succeeded"}


class TestWaiterWhoLeaves:
    async def test_leaves_the_others_their_lookup(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        poller = TaskPoller(client, QUICK)
        stays, leaves = [waiting(poller, task_id) for task_id in await submitted(client, 2)]
        emulator.arm("lookup", "hang", seconds=0.3)
        await until(lambda: gateway.under_way == 1)
        leaves.cancel()
        assert states([await stays]) == {"succeeded"}
        assert leaves.cancelled()

    async def test_is_not_requested_any_more(self, client: ImageClient, gateway: RecordingGateway) -> None:
        poller = TaskPoller(client, QUICK)
        left, other = unknown(2)
        leaves, stays = waiting(poller, left), waiting(poller, other, 1.0)
        await until(lambda: len(gateway.asked) == 1)
        leaves.cancel()
        await stays
        assert all(left not in keys for _, keys in gateway.asked[2:])

    async def test_last_takes_everything_along(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        poller = TaskPoller(client, QUICK)
        emulator.arm("lookup", "hang")
        alone = waiting(poller, unknown(1)[0])
        await until(lambda: gateway.under_way == 1)
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_last_does_not_stop_one_who_comes_just_then(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        poller = TaskPoller(client, QUICK)
        first, second = await submitted(client, 2)
        emulator.arm("lookup", "hang")
        leaves = waiting(poller, first)
        await until(lambda: gateway.under_way == 1)
        leaves.cancel()
        await all_done(poller, [second])

    async def test_may_come_back(self, client: ImageClient) -> None:
        poller = TaskPoller(client, QUICK)
        first, second = await submitted(client, 2)
        await all_done(poller, [first])
        await all_done(poller, [second])

    async def test_waits_for_nothing_if_there_is_nothing(self, emulator: RunningEmulator, client: ImageClient) -> None:
        seen = await TaskPoller(client, QUICK).wait([], until=time.time() + 60, submitted_at=time.time())
        assert seen == Seen({})
        assert emulator.totals()["lookup_requests"] == 0
