"""A fault of one waiter does not affect the others."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    LookUpFailed,
    RateLimited,
    RequestRefused,
    UnreadableResponse,
)
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.polling import PollSchedule, TaskPoller
from airflow_provider_imagegen.polling.bulk_lookup import EXTRA_LOOKUPS
from airflow_provider_imagegen.polling.poller import SINGLE_CONCURRENCY
from tests.polling.conftest import (
    QUICK,
    FragileGateway,
    RecordingGateway,
    SingleGateway,
    all_done,
    states,
    submitted,
    unknown,
    until,
    waiting,
)
from tests.stack.waiting import HANG, scaled


class TestBadId:
    async def test_refused_by_the_gateway_is_its_waiters_alone(
        self, emulator: RunningEmulator, client: ImageClient
    ) -> None:
        poller = TaskPoller(client, PollSchedule(interval=30))
        bad, *good = await submitted(client, 60)
        emulator.arm("lookup", "refuse", code="bad_request", status=400, task_id=bad, times=None)
        bad_wait = waiting(poller, bad)
        await all_done(poller, good)
        with pytest.raises(RequestRefused):
            await bad_wait
        assert emulator.totals()["lookup_requests"] <= 1 + EXTRA_LOOKUPS

    @pytest.mark.parametrize("status", [404, 422])
    async def test_not_found_is_waited_for_by_its_waiter_alone(
        self, emulator: RunningEmulator, client: ImageClient, status: int
    ) -> None:
        poller = TaskPoller(client, PollSchedule(interval=30))
        bad, *good = await submitted(client, 20)
        emulator.arm("lookup", "refuse", code="no_such_task", status=status, task_id=bad, times=None)
        bad_wait = waiting(poller, bad, 0.5)
        await all_done(poller, good)
        assert isinstance((await bad_wait).last_fault, LookUpFailed)

    async def test_forbidden_does_not_make_the_token_wrong_for_all(
        self, emulator: RunningEmulator, client: ImageClient
    ) -> None:
        poller = TaskPoller(client, PollSchedule(interval=30))
        bad, *good = await submitted(client, 20)
        emulator.arm("lookup", "refuse", code="not_yours", status=403, task_id=bad, times=None)
        bad_wait = waiting(poller, bad)
        await all_done(poller, good)
        with pytest.raises(AuthenticationError):
            await bad_wait

    @pytest.mark.parametrize("kind", ["html", "wrong_types"])
    async def test_whose_response_is_garbage_is_its_waiters_alone(
        self, emulator: RunningEmulator, client: ImageClient, kind: str
    ) -> None:
        poller = TaskPoller(client, PollSchedule(interval=0.05, slowest=0.1))
        bad, *good = await submitted(client, 20)
        emulator.arm("lookup", kind, task_id=bad, times=None)
        bad_wait = waiting(poller, bad)
        await all_done(poller, good)
        with pytest.raises(UnreadableResponse):
            await bad_wait

    async def test_that_breaks_a_gateways_code_is_its_waiters_alone(self, client: ImageClient) -> None:
        client.gateway = gateway = FragileGateway(client.settings)
        poller = TaskPoller(client, QUICK)
        gateway.unreadable, *good = await submitted(client, 20)
        bad_wait = waiting(poller, gateway.unreadable)
        await all_done(poller, good)
        with pytest.raises(KeyError):
            await bad_wait

    async def test_that_breaks_the_gateway_is_found_when_it_recovers(
        self, emulator: RunningEmulator, client: ImageClient
    ) -> None:
        poller = TaskPoller(client, PollSchedule(interval=0.05, slowest=0.1))
        bad, *good = await submitted(client, 30)
        emulator.arm("lookup", "error", status=503, task_id=bad, times=None)
        bad_wait = waiting(poller, bad, 3.0)
        await all_done(poller, good)
        assert (await bad_wait).tasks[bad].state == "running"

    async def test_of_many_costs_a_bounded_number_of_lookups_a_time(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        poller = TaskPoller(client, PollSchedule(interval=0.05, slowest=0.1))
        task_ids = await submitted(client, 60)
        bad, good = task_ids[::6], [task_id for number, task_id in enumerate(task_ids) if number % 6]
        for task_id in bad:
            emulator.arm("lookup", "refuse", code="bad_request", status=400, task_id=task_id, times=None)
        bad_waits = [waiting(poller, task_id) for task_id in bad]
        await all_done(poller, good)
        errors = await asyncio.gather(*bad_waits, return_exceptions=True)
        assert {type(error) for error in errors} == {RequestRefused}
        assert len({id(error) for error in errors}) == len(bad)


class TestFaults:
    async def test_strikes_of_one_waiter_are_not_inherited(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        poller = TaskPoller(client, QUICK)
        first, second = await submitted(client, 2)
        emulator.arm("lookup", "html", times=None)
        old = waiting(poller, first)
        await until(lambda: len(gateway.asked) >= QUICK.unreadable_limit - 1)
        new = waiting(poller, second)
        with pytest.raises(UnreadableResponse):
            await old
        assert not new.done()
        emulator.disarm()
        assert states([await new]) == {"succeeded"}

    async def test_of_a_lookup_that_hangs_holds_up_nobody_else(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        poller = TaskPoller(client, QUICK)
        first, second = await submitted(client, 2)
        emulator.arm("lookup", "hang")
        hangs = waiting(poller, first)
        await until(lambda: gateway.under_way == 1)
        await all_done(poller, [second])
        assert not hangs.done()
        hangs.cancel()

    async def test_retry_after_holds_for_everybody(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        poller = TaskPoller(client, QUICK)
        first, second = await submitted(client, 2)
        emulator.arm("lookup", "refuse", code="too_many_requests", status=429, retry_after=1.0)
        rushing = waiting(poller, first)
        await until(lambda: len(gateway.asked) == 1)
        refused_at = gateway.asked[0][0]
        await until(lambda: gateway.under_way == 0)
        newcomer = waiting(poller, second)
        assert states(await asyncio.gather(rushing, newcomer)) == {"succeeded"}
        assert all(asked_at >= refused_at + 1.0 for asked_at, _ in gateway.asked[1:])

    async def test_retry_after_does_not_take_the_last_look(
        self, emulator: RunningEmulator, client: ImageClient, gateway: RecordingGateway
    ) -> None:
        poller = TaskPoller(client, QUICK)
        (task_id,) = await submitted(client, 1)
        emulator.arm("lookup", "refuse", code="too_many_requests", status=429, retry_after=HANG)
        seen = await waiting(poller, task_id, scaled(3.0))
        assert (seen.tasks[task_id].state, len(gateway.asked)) == ("succeeded", 2)

    async def test_retry_after_spares_what_was_not_sent_yet(
        self, emulator: RunningEmulator, client: ImageClient
    ) -> None:
        client.gateway = gateway = SingleGateway(client.settings)
        poller = TaskPoller(client, PollSchedule(interval=30))
        emulator.arm("lookup", "refuse", code="too_many_requests", status=429, retry_after=60.0, times=None)
        results = await asyncio.gather(*(waiting(poller, task_id, 0.0) for task_id in unknown(500)))
        assert len(gateway.asked) < 200
        assert {type(seen.last_fault) for seen in results} == {RateLimited}

    async def test_time_outs_do_not_add_up_for_those_behind(
        self, emulator: RunningEmulator, settings: GatewaySettings
    ) -> None:
        emulator.arm("lookup", "hang", seconds=30, times=None)
        async with ImageClient(dataclasses.replace(settings, timeout=0.5)) as client:
            client.gateway = gateway = SingleGateway(client.settings)
            poller = TaskPoller(client, PollSchedule(interval=30))
            results = await asyncio.gather(*(waiting(poller, task_id, 0.0) for task_id in unknown(1000)))
        assert len(gateway.asked) <= 2 * SINGLE_CONCURRENCY
        assert {type(seen.last_fault) for seen in results} == {LookUpFailed}

    async def test_of_one_wait_is_not_passed_to_another(self, emulator: RunningEmulator, client: ImageClient) -> None:
        poller = TaskPoller(client, QUICK)
        good, bad = await submitted(client, 2)
        emulator.arm("lookup", "refuse", code="no_such_task", status=404, task_id=bad, times=None)
        fine, faulty = await asyncio.gather(waiting(poller, good), waiting(poller, bad, 0.5))
        assert fine.last_fault is None
        assert isinstance(faulty.last_fault, LookUpFailed)
