"""Many wait, few look-ups are made, and what goes wrong for one goes wrong for nobody else."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.client import ImageClient
from airflow_provider_imagegen.connection import GatewaySettings
from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    ConfigurationError,
    LookUpFailed,
    RateLimited,
    RequestRefused,
    UnreadableAnswer,
)
from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway
from airflow_provider_imagegen.gateways.base import Handle
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask
from airflow_provider_imagegen.watcher import PollSchedule, Seen, TaskWatcher, shared_watcher, wait_through
from airflow_provider_imagegen.watcher.look_ups import EXTRA_LOOK_UPS
from airflow_provider_imagegen.watcher.task_watcher import SINGLE_ABREAST
from airflow_provider_imagegen.watcher.usual_times import NEEDED

QUICK = PollSchedule(interval=0.2, slowest=0.4)


class RecordingGateway(AceDataCloudGateway):
    """The usual gateway, which notes when it was asked for what, and how many look-ups were under way at once."""

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
    """A gateway that shows one task per look-up."""

    abilities = dataclasses.replace(AceDataCloudGateway.abilities, ids_per_look_up=1)


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


def waiting(watcher: TaskWatcher, task_id: str, seconds: float = 20.0, **options: Any) -> asyncio.Task[Seen]:
    now = time.time()
    return asyncio.create_task(watcher.wait([task_id], until=now + seconds, submitted_at=now, **options))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def states(results: Sequence[Seen]) -> set[str]:
    return {task.state for seen in results for task in seen.tasks.values()}


async def all_done(watcher: TaskWatcher, task_ids: list[str]) -> None:
    results = await asyncio.gather(*(waiting(watcher, task_id) for task_id in task_ids))
    assert states(results) == {"succeeded"}


class TestAThousandWaiters:
    async def test_share_look_ups_of_a_hundred(self, emulator: RunningEmulator, client: ImageClient) -> None:
        watcher = TaskWatcher(client, PollSchedule(interval=1.0))
        results = await asyncio.gather(*(waiting(watcher, task_id, 2.5) for task_id in unknown(1000)))
        assert states(results) == {"unseen"}
        totals = emulator.totals()
        assert totals["lookups"] >= 1000 * 3
        assert totals["lookup_requests"] <= totals["lookups"] / 90

    async def test_who_come_one_by_one_are_drawn_together(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        watcher = TaskWatcher(client, PollSchedule(interval=1.0))
        dice, waits = random.Random(1), []
        for task_id in unknown(1000):
            waits.append(waiting(watcher, task_id, 6.0))
            if dice.random() < 0.5:
                await asyncio.sleep(0.002)
        start = time.monotonic() + 2.0
        await asyncio.gather(*waits)
        settled = [len(keys) for asked_at, keys in gateway.asked if start <= asked_at < start + 2.0]
        assert sum(settled) / len(settled) >= 90

    async def test_at_a_gateway_of_single_look_ups_do_not_rush_it(self, client: ImageClient) -> None:
        client.gateway = gateway = SingleGateway(client.settings)
        watcher = TaskWatcher(client, PollSchedule(interval=30))
        await asyncio.gather(*(waiting(watcher, task_id, 0.0) for task_id in unknown(300)))
        assert len(gateway.asked) == 300
        assert 10 < gateway.peak <= SINGLE_ABREAST

    async def test_all_learn_what_became_of_their_tasks(self, emulator: RunningEmulator, client: ImageClient) -> None:
        emulator.change(latency="0.1-1")
        watcher = TaskWatcher(client, QUICK)
        task_ids = await submitted(client, 150)
        results = await asyncio.gather(*(waiting(watcher, task_id) for task_id in task_ids))
        assert [list(seen.tasks) for seen in results] == [[task_id] for task_id in task_ids]
        assert states(results) == {"succeeded"}


class TestWaiterWhoLeaves:
    async def test_leaves_the_others_their_look_up(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        watcher = TaskWatcher(client, QUICK)
        stays, leaves = [waiting(watcher, task_id) for task_id in await submitted(client, 2)]
        emulator.arm("lookup", "hang", seconds=0.3)
        await until(lambda: gateway.under_way == 1)
        leaves.cancel()
        assert states([await stays]) == {"succeeded"}
        assert leaves.cancelled()

    async def test_is_not_asked_for_any_more(self, client: ImageClient, gateway: RecordingGateway) -> None:
        watcher = TaskWatcher(client, QUICK)
        left, other = unknown(2)
        leaves, stays = waiting(watcher, left), waiting(watcher, other, 1.0)
        await until(lambda: len(gateway.asked) == 1)
        leaves.cancel()
        await stays
        assert all(left not in keys for _, keys in gateway.asked[2:])

    async def test_last_takes_everything_along(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        watcher = TaskWatcher(client, QUICK)
        emulator.arm("lookup", "hang", seconds=3)
        alone = waiting(watcher, unknown(1)[0])
        await until(lambda: gateway.under_way == 1)
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_last_does_not_stop_one_who_comes_just_then(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        watcher = TaskWatcher(client, QUICK)
        first, second = await submitted(client, 2)
        emulator.arm("lookup", "hang", seconds=3)
        leaves = waiting(watcher, first)
        await until(lambda: gateway.under_way == 1)
        leaves.cancel()
        await all_done(watcher, [second])

    async def test_may_come_back(self, client: ImageClient) -> None:
        watcher = TaskWatcher(client, QUICK)
        first, second = await submitted(client, 2)
        await all_done(watcher, [first])
        await all_done(watcher, [second])

    async def test_waits_for_nothing_if_there_is_nothing(self, emulator: RunningEmulator, client: ImageClient) -> None:
        seen = await TaskWatcher(client, QUICK).wait([], until=time.time() + 60, submitted_at=time.time())
        assert seen == Seen({})
        assert emulator.totals()["lookup_requests"] == 0


class TestBadId:
    async def test_refused_by_the_gateway_is_its_waiters_alone(
        self, emulator: RunningEmulator, client: ImageClient
    ) -> None:
        watcher = TaskWatcher(client, PollSchedule(interval=30))
        bad, *good = await submitted(client, 60)
        emulator.arm("lookup", "refuse", code="bad_request", status=400, task_id=bad, times=None)
        bad_wait = waiting(watcher, bad)
        await all_done(watcher, good)
        with pytest.raises(RequestRefused):
            await bad_wait
        assert emulator.totals()["lookup_requests"] <= 1 + EXTRA_LOOK_UPS

    @pytest.mark.parametrize("status", [404, 422])
    async def test_not_found_is_waited_for_by_its_waiter_alone(
        self, emulator: RunningEmulator, client: ImageClient, status: int
    ) -> None:
        watcher = TaskWatcher(client, PollSchedule(interval=30))
        bad, *good = await submitted(client, 20)
        emulator.arm("lookup", "refuse", code="no_such_task", status=status, task_id=bad, times=None)
        bad_wait = waiting(watcher, bad, 0.5)
        await all_done(watcher, good)
        assert isinstance((await bad_wait).last_fault, LookUpFailed)

    async def test_forbidden_does_not_make_the_token_wrong_for_all(
        self, emulator: RunningEmulator, client: ImageClient
    ) -> None:
        watcher = TaskWatcher(client, PollSchedule(interval=30))
        bad, *good = await submitted(client, 20)
        emulator.arm("lookup", "refuse", code="not_yours", status=403, task_id=bad, times=None)
        bad_wait = waiting(watcher, bad)
        await all_done(watcher, good)
        with pytest.raises(AuthenticationError):
            await bad_wait

    @pytest.mark.parametrize("kind", ["html", "wrong_types"])
    async def test_whose_answer_is_garbage_is_its_waiters_alone(
        self, emulator: RunningEmulator, client: ImageClient, kind: str
    ) -> None:
        watcher = TaskWatcher(client, PollSchedule(interval=0.05, slowest=0.1))
        bad, *good = await submitted(client, 20)
        emulator.arm("lookup", kind, task_id=bad, times=None)
        bad_wait = waiting(watcher, bad)
        await all_done(watcher, good)
        with pytest.raises(UnreadableAnswer):
            await bad_wait

    async def test_that_breaks_a_gateways_code_is_its_waiters_alone(self, client: ImageClient) -> None:
        client.gateway = gateway = FragileGateway(client.settings)
        watcher = TaskWatcher(client, QUICK)
        gateway.unreadable, *good = await submitted(client, 20)
        bad_wait = waiting(watcher, gateway.unreadable)
        await all_done(watcher, good)
        with pytest.raises(KeyError):
            await bad_wait

    async def test_that_breaks_the_gateway_is_found_when_it_goes_on(
        self, emulator: RunningEmulator, client: ImageClient
    ) -> None:
        watcher = TaskWatcher(client, PollSchedule(interval=0.05, slowest=0.1))
        bad, *good = await submitted(client, 30)
        emulator.arm("lookup", "error", status=503, task_id=bad, times=None)
        bad_wait = waiting(watcher, bad, 3.0)
        await all_done(watcher, good)
        assert (await bad_wait).tasks[bad].state == "running"

    async def test_of_many_costs_a_bounded_number_of_look_ups_a_time(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        watcher = TaskWatcher(client, PollSchedule(interval=0.05, slowest=0.1))
        task_ids = await submitted(client, 60)
        bad, good = task_ids[::6], [task_id for number, task_id in enumerate(task_ids) if number % 6]
        for task_id in bad:
            emulator.arm("lookup", "refuse", code="bad_request", status=400, task_id=task_id, times=None)
        bad_waits = [waiting(watcher, task_id) for task_id in bad]
        await all_done(watcher, good)
        errors = await asyncio.gather(*bad_waits, return_exceptions=True)
        assert {type(error) for error in errors} == {RequestRefused}
        assert len({id(error) for error in errors}) == len(bad)


class TestTrouble:
    async def test_strikes_of_one_waiter_are_not_inherited(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        watcher = TaskWatcher(client, QUICK)
        first, second = await submitted(client, 2)
        emulator.arm("lookup", "html", times=None)
        old = waiting(watcher, first)
        await until(lambda: len(gateway.asked) >= QUICK.unreadable_limit - 1)
        new = waiting(watcher, second)
        with pytest.raises(UnreadableAnswer):
            await old
        assert not new.done()
        emulator.disarm()
        assert states([await new]) == {"succeeded"}

    async def test_of_a_look_up_that_hangs_holds_up_nobody_else(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        watcher = TaskWatcher(client, QUICK)
        first, second = await submitted(client, 2)
        emulator.arm("lookup", "hang", seconds=3)
        hangs = waiting(watcher, first)
        await until(lambda: gateway.under_way == 1)
        await all_done(watcher, [second])
        assert not hangs.done()
        assert states([await hangs]) == {"succeeded"}

    async def test_retry_after_holds_for_everybody(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        watcher = TaskWatcher(client, QUICK)
        first, second = await submitted(client, 2)
        emulator.arm("lookup", "refuse", code="too_many_requests", status=429, retry_after=1.0)
        rushing = waiting(watcher, first)
        await until(lambda: len(gateway.asked) == 1)
        refused_at = gateway.asked[0][0]
        await until(lambda: gateway.under_way == 0)
        newcomer = waiting(watcher, second)
        assert states(await asyncio.gather(rushing, newcomer)) == {"succeeded"}
        assert all(asked_at >= refused_at + 1.0 for asked_at, _ in gateway.asked[1:])

    async def test_retry_after_does_not_take_the_last_look(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        watcher = TaskWatcher(client, QUICK)
        emulator.change(latency=0.2)
        (task_id,) = await submitted(client, 1)
        emulator.arm("lookup", "refuse", code="too_many_requests", status=429, retry_after=60.0)
        seen = await waiting(watcher, task_id, 0.5)
        assert (seen.tasks[task_id].state, len(gateway.asked)) == ("succeeded", 2)

    async def test_retry_after_spares_what_was_not_sent_yet(
        self, emulator: RunningEmulator, client: ImageClient
    ) -> None:
        client.gateway = gateway = SingleGateway(client.settings)
        watcher = TaskWatcher(client, PollSchedule(interval=30))
        emulator.arm("lookup", "refuse", code="too_many_requests", status=429, retry_after=60.0, times=None)
        results = await asyncio.gather(*(waiting(watcher, task_id, 0.0) for task_id in unknown(500)))
        assert len(gateway.asked) < 200
        assert {type(seen.last_fault) for seen in results} == {RateLimited}

    async def test_time_outs_do_not_add_up_for_those_behind(
        self, emulator: RunningEmulator, settings: GatewaySettings
    ) -> None:
        emulator.arm("lookup", "hang", seconds=30, times=None)
        async with ImageClient(dataclasses.replace(settings, timeout=0.5)) as client:
            client.gateway = SingleGateway(client.settings)
            watcher = TaskWatcher(client, PollSchedule(interval=30))
            start = time.monotonic()
            results = await asyncio.gather(*(waiting(watcher, task_id, 0.0) for task_id in unknown(1000)))
        assert time.monotonic() - start < 0.5 * 1000 / SINGLE_ABREAST / 2
        assert {type(seen.last_fault) for seen in results} == {LookUpFailed}

    async def test_of_one_wait_is_not_told_to_another(self, emulator: RunningEmulator, client: ImageClient) -> None:
        watcher = TaskWatcher(client, QUICK)
        good, bad = await submitted(client, 2)
        emulator.arm("lookup", "refuse", code="no_such_task", status=404, task_id=bad, times=None)
        fine, faulty = await asyncio.gather(waiting(watcher, good), waiting(watcher, bad, 0.5))
        assert fine.last_fault is None
        assert isinstance(faulty.last_fault, LookUpFailed)


class TestWhatFinishes:
    async def test_teaches_when_to_look_first(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        emulator.change(latency=1.0)
        watcher = TaskWatcher(client, PollSchedule(interval=0.2))
        teachers = [waiting(watcher, task_id, model="m") for task_id in await submitted(client, NEEDED)]
        await asyncio.gather(*teachers)
        (task_id,) = await submitted(client, 1)
        start = time.monotonic()
        seen = await waiting(watcher, task_id, model="m")
        first_look = next(asked_at for asked_at, keys in gateway.asked if task_id in keys)
        assert seen.tasks[task_id].state == "succeeded"
        assert first_look - start > 0.4

    async def test_teaches_nothing_about_other_models(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        emulator.change(latency=0.6)
        watcher = TaskWatcher(client, PollSchedule(interval=0.2))
        await asyncio.gather(*(waiting(watcher, task_id, model="m") for task_id in await submitted(client, NEEDED)))
        (task_id,) = await submitted(client, 1)
        start = time.monotonic()
        await waiting(watcher, task_id, model="another")
        assert next(asked_at for asked_at, keys in gateway.asked if task_id in keys) - start < 0.3


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

    def wait(self, task_id: str, seconds: float = 20.0) -> Awaitable[Seen]:
        now = time.time()
        return wait_through(
            "conn", self.read, [task_id], until=now + seconds, submitted_at=now, schedule=PollSchedule(interval=0.2)
        )


class TestWaitersOfOneConnection:
    async def test_read_it_once_and_share_look_ups(self, emulator: RunningEmulator, settings: GatewaySettings) -> None:
        connection = Connection(settings)
        await asyncio.gather(*(connection.wait(task_id, 1.0) for task_id in unknown(300)))
        totals = emulator.totals()
        assert connection.readings == 1
        assert totals["lookup_requests"] <= totals["lookups"] / 60

    async def test_share_one_watcher_which_others_do_not_get(self, settings: GatewaySettings) -> None:
        other = dataclasses.replace(settings, headers={"x-team": "two"})
        async with shared_watcher(settings) as one, shared_watcher(settings) as two, shared_watcher(other) as three:
            assert one is two
            assert one is not three
        async with shared_watcher(settings) as later:
            assert later is not one

    async def test_go_on_with_a_rotated_token_that_is_read_once_for_all(
        self, emulator: RunningEmulator, client: ImageClient, settings: GatewaySettings
    ) -> None:
        emulator.change(latency=1.0)
        connection = Connection(settings)
        task_ids = await submitted(client, 250)
        waits = asyncio.gather(*(connection.wait(task_id) for task_id in task_ids))
        await until(lambda: emulator.totals()["lookup_requests"] >= 3)
        emulator.change(token="rotated")
        connection.settings = dataclasses.replace(settings, token="rotated")
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
        from airflow_provider_imagegen.watcher import shared

        connection = Connection(settings)

        async def ends_early() -> None:
            waits = [asyncio.ensure_future(connection.wait(task_id)) for task_id in unknown(20)]
            await until(lambda: emulator.totals()["lookup_requests"] >= 1)
            assert not any(wait.done() for wait in waits)

        asyncio.run(ends_early())
        assert not any(left.watchers for left in shared._loops.values())
