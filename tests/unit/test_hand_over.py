"""The end of waiting in the worker: when rows are handed over, and when they are not."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_imagegen.engine.batch.limits import HandOver
from tests.stack.waiting import HANG


async def result_after(steps: int) -> str:
    for _ in range(steps):
        await asyncio.sleep(0)
    return "done"


async def never() -> str:
    await asyncio.Event().wait()
    return "done"


class TestHandOver:
    def test_comes_once_everything_is_submitted(self) -> None:
        async def waits() -> list[str | None]:
            hand_over = HandOver(0.0)
            hand_over.begin_submit()
            hand_over.begin_submit()
            tasks = [asyncio.create_task(hand_over.wait(wait)) for wait in (result_after(50), never())]
            hand_over.end_submit()
            await tasks[0]
            assert not tasks[1].done()
            hand_over.end_submit()
            return await asyncio.gather(*tasks)

        assert asyncio.run(asyncio.wait_for(waits(), HANG)) == ["done", None]

    def test_never_comes_without_a_grace(self) -> None:
        async def wait() -> str | None:
            hand_over = HandOver(None)
            hand_over.begin_submit()
            hand_over.end_submit()
            return await hand_over.wait(result_after(50))

        assert asyncio.run(wait()) == "done"

    def test_is_put_off_by_another_submit(self) -> None:
        async def wait() -> str | None:
            hand_over = HandOver(0.0)
            hand_over.begin_submit()
            hand_over.end_submit()
            hand_over.begin_submit()
            return await hand_over.wait(result_after(50))

        assert asyncio.run(wait()) == "done"

    def test_may_come_in_the_moment_in_which_another_submit_begins(self) -> None:
        async def waits() -> list[str | None]:
            hand_over = HandOver(0.0)
            hand_over.begin_submit()
            tasks = [asyncio.create_task(hand_over.wait(never())) for _ in range(3)]
            await asyncio.sleep(0)
            hand_over.end_submit()
            # Timers run in the order of their times, before the rows whose time is up.
            loop = asyncio.get_running_loop()
            loop.call_at(loop.time(), hand_over.begin_submit)
            return await asyncio.gather(*tasks)

        assert asyncio.run(asyncio.wait_for(waits(), HANG)) == [None] * 3

    def test_of_all_is_not_put_off_by_the_submit_that_ends_then(self) -> None:
        async def wait() -> str | None:
            hand_over = HandOver(HANG)
            hand_over.begin_submit()
            waiting = asyncio.create_task(hand_over.wait(never()))
            await asyncio.sleep(0)
            hand_over.end_all()
            hand_over.end_submit()
            return await waiting

        assert asyncio.run(asyncio.wait_for(wait(), HANG / 2)) is None

    def test_is_not_taken_for_a_timeout_of_the_row(self) -> None:
        async def fail() -> str:
            raise TimeoutError("of a library")

        async def wait() -> str | None:
            return await HandOver(HANG).wait(fail())

        with pytest.raises(TimeoutError, match="of a library"):
            asyncio.run(wait())
