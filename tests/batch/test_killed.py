"""A batch that dies in the middle, at any point; tests of crashes kill real processes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from airflow_provider_imagegen.effects import Effect
from tests.batch.conftest import BatchLaboratory, prompts
from tests.failures.conftest import killed_at
from tests.stack.waiting import wait_until

ROWS = 12
POINTS = [
    (which, moment, occurrence)
    for which, occurrences in {
        Effect.CLAIM: (7,),
        Effect.SUBMIT: (1, 7),
        Effect.RECORD: (1, 20),
        Effect.PUT_IMAGE: (8,),
        Effect.PUT_MANIFEST: (1,),
    }.items()
    for moment in ("before", "after")
    for occurrence in occurrences
]


def die(laboratory: BatchLaboratory, which: Effect, moment: Any, occurrence: int, **ask: Any) -> None:
    with killed_at(which, moment, occurrence):
        asyncio.run(laboratory.batch(prompts(ROWS), **ask).begin())


def let_time_pass(laboratory: BatchLaboratory) -> None:
    """Wait until everything drawn is drawn, and all that was sent has shown up."""
    claims = [entry.record.claimed_at for entry in laboratory.entries() if entry.record.state == "claimed"]
    settings = laboratory.settings
    shown = max(claims, default=0.0) + 1.5 * settings.visibility_grace + (settings.timeout or 0.0)
    wait_until(
        lambda: time.time() > shown and not laboratory.emulator.totals()["in_flight"],
        what="the gateway to be done",
        timeout=20,
    )


class TestKilledInTheMiddle:
    @pytest.mark.parametrize(("which", "moment", "occurrence"), POINTS)
    def test_retry_pays_for_no_row_twice(
        self, laboratory: BatchLaboratory, which: Effect, moment: Any, occurrence: int
    ) -> None:
        laboratory.emulator.change(latency=0.1)
        die(laboratory, which, moment, occurrence, max_in_flight=4)
        let_time_pass(laboratory)
        summary = laboratory.run(prompts(ROWS), try_number=2, max_in_flight=4)
        assert (summary.landed, summary.billed) == (ROWS, ROWS)
        assert laboratory.billed == ROWS
        per_prompt = Counter(row["prompt"] for row in laboratory.emulator.ledger()["rows"] if row["due"])
        assert set(per_prompt.values()) == {1}
        assert len(laboratory.names()) == ROWS


class TestClearedAfterSuccess:
    def test_hands_out_the_same_and_bills_nothing(self, laboratory: BatchLaboratory) -> None:
        laboratory.run(prompts(5))
        before = [line["images"][0]["sha256"] for line in laboratory.lines()]
        summary = laboratory.run(prompts(5), try_number=2, epoch=1)
        assert [line["images"][0]["sha256"] for line in laboratory.lines()] == before
        assert (summary.reused, laboratory.billed) == (5, 5)
