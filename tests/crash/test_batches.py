"""A batch whose worker is killed repeatedly."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.crash.crash_runner import Task
from tests.crash.tries import Point
from tests.examples import is_full

ROWS = int(os.environ.get("KILLED_ROWS", "240" if is_full() else "64"))
PLACES = ROWS // 8


class TestKilledThreeTimesAtRandom:
    @pytest.mark.parametrize("deferrable", [True, pytest.param(False, marks=pytest.mark.full)])
    def test_every_row_lands_and_none_is_paid_twice(self, new_task: Callable[..., Task], deferrable: bool) -> None:
        dice = random.Random(f"batch {deferrable}")
        task = new_task(
            requests=[f"a kite, number {number}" for number in range(ROWS)],
            prompt="",
            n=1,
            model="gpt-image-1",
            max_in_flight=PLACES,
            deferrable=deferrable,
        )
        task.emulator.change(latency="0.2-0.8", image_bytes=1000)
        for _ in range(3):
            point = Point(
                dice.choice(["claim", "submit", "record", "put_image"]), "after", dice.randint(ROWS // 16, ROWS // 4)
            )
            assert task.attempt(batch=True, kill=point).killed
            task.let_time_pass()
        last = task.attempt(batch=True)
        assert last.error is None, last.message
        assert [last.manifest[name] for name in ("rows", "landed", "billed")] == [ROWS] * 3
        rows = task.emulator.ledger()["rows"]
        assert set(Counter(row["prompt"] for row in rows if row["due"]).values()) == {1}
        assert task.bill().images == ROWS
        assert sum(key.endswith(".png") for key in task.stored()) == ROWS
        assert task.emulator.totals()["peak_in_flight"] <= PLACES
