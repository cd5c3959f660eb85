"""All who wait on one connection share one poller, and read the connection once."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Awaitable

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import AuthenticationError, ConfigurationError
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.polling import PollSchedule, Seen, shared_poller, wait_for_slot, wait_through
from airflow_provider_imagegen.schemas import OpenTask, SlotWait, Submission
from tests.polling.conftest import states, submitted, unknown, until
from tests.stack.waiting import HANG


class Connection:
    """A connection that can be changed and counts how often it is read.

    :param settings: What it says; an error if it cannot be read.
    """

    def __init__(self, settings: GatewaySettings | ConfigurationError) -> None:
        self.settings = settings
        self.readings = 0

    async def read(self) -> GatewaySettings:
        self.readings += 1
        said = self.settings
        await asyncio.sleep(0.01)
        if isinstance(said, ConfigurationError):
            raise said
        return said

    def wait(self, task_id: str, seconds: float = HANG) -> Awaitable[Seen]:
        return wait_through("conn", self.read, in_line(task_id, seconds=seconds), PollSchedule(interval=0.2))


class TestWaitersOfOneConnection:
    async def test_read_it_once_and_share_lookups(self, emulator: RunningEmulator, settings: GatewaySettings) -> None:
        connection = Connection(settings)
        await asyncio.gather(*(connection.wait(task_id, 1.0) for task_id in unknown(300)))
        totals = emulator.totals()
        assert connection.readings == 1
        assert totals["lookup_requests"] <= totals["lookups"] / 60

    async def test_share_one_poller_which_others_do_not_get(self, settings: GatewaySettings) -> None:
        other = dataclasses.replace(settings, headers={"x-team": "two"})
        async with shared_poller(settings) as one, shared_poller(settings) as two, shared_poller(other) as three:
            assert one is two
            assert one is not three
        async with shared_poller(settings) as later:
            assert later is not one

    async def test_continue_with_a_rotated_token_that_is_read_once_for_all(
        self, emulator: RunningEmulator, client: ImageClient, settings: GatewaySettings
    ) -> None:
        emulator.hold()
        connection = Connection(settings)
        task_ids = await submitted(client, 250)
        waits = asyncio.gather(*(connection.wait(task_id) for task_id in task_ids))
        await until(lambda: emulator.totals()["lookup_requests"] >= 3)
        emulator.change(token="rotated")
        connection.settings = dataclasses.replace(settings, token="rotated")
        emulator.release()
        assert states(await waits) == {"succeeded"}
        assert connection.readings == 2

    async def test_all_fail_if_the_token_stays_refused(
        self, emulator: RunningEmulator, settings: GatewaySettings
    ) -> None:
        connection = Connection(dataclasses.replace(settings, token="stale"))
        errors = await asyncio.gather(*(connection.wait(task_id) for task_id in unknown(250)), return_exceptions=True)
        assert {type(error) for error in errors} == {AuthenticationError}
        assert connection.readings == 2
        assert emulator.totals()["lookup_requests"] <= 2 * 8

    async def test_all_learn_that_it_was_deleted(self, emulator: RunningEmulator, settings: GatewaySettings) -> None:
        connection = Connection(settings)
        waits = asyncio.gather(*(connection.wait(task_id) for task_id in unknown(20)), return_exceptions=True)
        await until(lambda: emulator.totals()["lookup_requests"] >= 1)
        connection.settings = ConfigurationError("there is no connection 'conn'")
        emulator.change(token="rotated")
        assert {str(error) for error in await waits} == {str(connection.settings)}
        assert connection.readings == 2

    async def test_do_not_depend_on_the_one_who_came_first(self, settings: GatewaySettings) -> None:
        connection = Connection(settings)
        first, second = (asyncio.ensure_future(connection.wait(task_id, 0.5)) for task_id in unknown(2))
        await until(lambda: connection.readings == 1)
        first.cancel()
        assert states([await second]) == {"unseen"}
        assert connection.readings == 1

    def test_on_two_loops_share_nothing(self, emulator: RunningEmulator, settings: GatewaySettings) -> None:
        connection = Connection(settings)
        results: list[Seen] = []

        async def one_loop() -> None:
            results.extend(await asyncio.gather(*(connection.wait(task_id, 1.0) for task_id in unknown(50))))

        threads = [threading.Thread(target=lambda: asyncio.run(one_loop())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 100
        assert connection.readings == 2

    def test_leave_nothing_behind_when_their_loop_ends(
        self, emulator: RunningEmulator, settings: GatewaySettings
    ) -> None:
        from airflow_provider_imagegen.polling import shared

        connection = Connection(settings)

        async def ends_early() -> None:
            waits = [asyncio.ensure_future(connection.wait(task_id)) for task_id in unknown(20)]
            await until(lambda: emulator.totals()["lookup_requests"] >= 1)
            assert not any(wait.done() for wait in waits)

        asyncio.run(ends_early())
        assert not any(left.pollers for left in shared._loops.values())


class TestLineForSlots:
    async def test_is_not_woken_by_tasks_that_had_ended_before(
        self, emulator: RunningEmulator, client: ImageClient, settings: GatewaySettings
    ) -> None:
        connection = Connection(dataclasses.replace(settings, max_in_flight=1))
        (over,) = await submitted(client, 1)
        await connection.wait(over)
        emulator.hold()
        (running,) = await submitted(client, 1)
        at_the_gateway = asyncio.ensure_future(connection.wait(running))
        waiting = [
            asyncio.ensure_future(wait_for_slot("conn", connection.read, in_line(*ids), PollSchedule(interval=0.2)))
            for ids in ([], [over])
        ]
        before = emulator.totals()["lookups"]
        await until(lambda: emulator.totals()["lookups"] >= before + 4)
        assert not any(task.done() for task in waiting)
        emulator.release()
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.done() for task in waiting] == [True, False]
        waiting[1].cancel()
        await asyncio.gather(at_the_gateway, *waiting, return_exceptions=True)


def in_line(*task_ids: str, seconds: float = HANG) -> Submission:
    now = time.time()
    opened = tuple(
        OpenTask(index=0, count=1, task_id=task_id, scope="s", fingerprint="f", generation=1) for task_id in task_ids
    )
    return Submission(submitted_at=now, deadline=now + seconds, open=opened, slot=SlotWait(since=now, refusals=1))
