"""The line for free slots: who is woken, when, and how many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from airflow_provider_imagegen.polling.slots import FIRST_PAUSE, LONGEST_PAUSE, SlotQueue
from airflow_provider_imagegen.schemas import SlotWait
from tests.polling.virtual_time import VirtualLoop

FOR_EVER = float(10**9)


class Line:
    """A line in virtual time, and who was woken when.

    :param limit: Requests that the connection allows.
    """

    def __init__(self, limit: int = 4) -> None:
        self.in_flight = 0
        self.now: Callable[[], float] = asyncio.get_running_loop().time
        self.start = self.now()
        self.queue = SlotQueue(limit, lambda: self.in_flight, self.now)
        self.woken: list[tuple[str, float]] = []

    async def join(self, name: str, until: float = FOR_EVER, **place: Any) -> asyncio.Task[bool]:
        async def wait() -> bool:
            has_turn = await self.queue.wait(SlotWait(**{"since": self.now(), "refusals": 1} | place), until)
            if has_turn:
                self.woken.append((name, self.now() - self.start))
            return has_turn

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0.01)
        return task

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.woken]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(scenario)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


class TestOrder:
    def test_who_was_refused_first_goes_first(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.in_flight = 4
            for name in "abc":
                await line.join(name)
            line.queue.free(2)
            await asyncio.sleep(1)
            assert line.names == ["a", "b"]

        run(scenario())

    def test_those_of_one_moment_all_go(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.in_flight = 4
            since = line.now()
            for name in "abc":
                await line.join(name, since=since)
            line.queue.free(2)
            await asyncio.sleep(1)
            line.queue.free(1)
            await asyncio.sleep(1)
            assert line.names == ["a", "b", "c"]

        run(scenario())

    def test_who_was_told_to_wait_for_hours_holds_up_nobody(self) -> None:
        async def scenario() -> None:
            line = Line()
            await line.join("told to wait", not_before=line.now() + 7200)
            await line.join("told to wait too", not_before=line.now() + 600)
            await line.join("next")
            await asyncio.sleep(100)
            assert line.names == ["next"]
            await asyncio.sleep(1000)
            assert line.names == ["next", "told to wait too"]

        run(scenario())

    def test_a_higher_priority_goes_before(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.in_flight = 4
            await line.join("usual")
            await line.join("urgent", priority=10)
            line.queue.free(1)
            await asyncio.sleep(1)
            assert line.names == ["urgent"]

        run(scenario())

    def test_who_is_refused_again_keeps_the_place(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.in_flight = 4
            since = line.now()
            await line.join("first")
            await line.join("second")
            line.queue.free(1)
            await asyncio.sleep(1)
            await line.join("first again", since=since, refusals=2)
            line.queue.free(1)
            await asyncio.sleep(1)
            assert line.names == ["first", "first again"]

        run(scenario())


class TestSlotThatBecomesFree:
    def test_wakes_one_and_nobody_else(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.in_flight = 4
            for name in "abc":
                await line.join(name)
            line.queue.free(1)
            # However long it takes: the tasks that are known to be at the gateway fill the limit.
            await asyncio.sleep(100 * LONGEST_PAUSE)
            assert line.names == ["a"]

        run(scenario())

    def test_is_not_handed_on_before_the_gateway_may_be_asked_again(self) -> None:
        async def scenario() -> None:
            line = Line()
            await line.join("a", not_before=line.now() + 30)
            line.queue.free(1)
            await asyncio.sleep(100)
            assert line.woken == [("a", pytest.approx(30, abs=0.1))]

        run(scenario())

    def test_wakes_no_more_than_the_limit_after_the_gateway_asked_to_wait(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.in_flight = 4
            for name in range(20):
                await line.join(str(name), not_before=line.now() + 30)
            line.queue.free(3)
            line.queue.free(17)
            await asyncio.sleep(100)
            assert len(line.names) == 4

        run(scenario())

    def test_is_forgotten_when_nobody_waits(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.queue.free(3)
            line.in_flight = 4
            await line.join("refused after that")
            await asyncio.sleep(1000)
            assert line.names == []

        run(scenario())


class TestNothingSeenToEnd:
    def test_one_is_tried_now_and_then_and_more_rarely_the_more_often_these_were_refused(self) -> None:
        async def scenario() -> None:
            line = Line()
            since = line.now()
            pauses = []
            for _ in range(20):
                began = line.now()
                assert await (await line.join("a", since=since))
                pauses.append(line.now() - began)
            assert FIRST_PAUSE <= pauses[0] <= 1.5 * FIRST_PAUSE
            assert pauses[5] >= 4 * FIRST_PAUSE
            assert all(LONGEST_PAUSE <= pause <= 1.5 * LONGEST_PAUSE for pause in pauses[-5:])

        run(scenario())

    def test_one_after_the_other_is_tried_soon_while_they_are_not_refused(self) -> None:
        async def scenario() -> None:
            line = Line()
            since = line.now()
            for _ in range(20):
                await (await line.join("refused", since=since))
            for number in range(30):
                await line.join(str(number))
            await asyncio.sleep(4 * LONGEST_PAUSE)
            assert len(line.names) > 20 + 10

        run(scenario())

    def test_others_are_not_tried_more_often_than_one(self) -> None:
        async def scenario() -> None:
            """Each comes back refused some seconds after it was woken."""
            line = Line()

            async def go_on(name: str) -> None:
                since = line.now()
                while True:
                    await (await line.join(name, since=since))
                    await asyncio.sleep(14)

            tasks = [asyncio.ensure_future(go_on(name)) for name in "abcdefgh"]
            await asyncio.sleep(600)
            assert len(line.names) < 20
            for task in tasks:
                task.cancel()

        run(scenario())

    def test_is_not_put_off_when_the_wall_clock_is_set_back(self) -> None:
        async def scenario() -> None:
            line = Line()
            ahead = 3600.0
            line.queue = SlotQueue(4, lambda: 0, lambda: line.now() + ahead)
            await line.join("a", not_before=line.now() + ahead)
            ahead = 0.0
            await asyncio.sleep(2 * FIRST_PAUSE)
            assert line.names == ["a"]

        run(scenario())

    def test_one_at_a_time(self) -> None:
        async def scenario() -> None:
            line = Line()
            for name in "abc":
                await line.join(name)
            await asyncio.sleep(100)
            first, second, third = (moment for _, moment in line.woken)
            assert second - first >= FIRST_PAUSE
            assert third - second >= FIRST_PAUSE

        run(scenario())


class TestLeaving:
    def test_at_the_deadline_without_a_turn(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.in_flight = 4
            task = await line.join("a", until=line.now() + 50)
            assert await task is False
            assert line.now() - line.start == pytest.approx(50, abs=0.1)

        run(scenario())

    def test_makes_room_for_the_next(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.in_flight = 4
            first = await line.join("a")
            await line.join("b")
            first.cancel()
            await asyncio.sleep(0.01)
            line.queue.free(1)
            await asyncio.sleep(1)
            assert line.names == ["b"]

        run(scenario())

    def test_of_tasks_that_nobody_saw_end_lets_others_try(self) -> None:
        async def scenario() -> None:
            line = Line()
            line.in_flight = 4
            await line.join("a")
            line.in_flight = 0
            line.queue.free(0)
            await asyncio.sleep(100)
            assert line.names == ["a"]

        run(scenario())
