"""A batch that dies in the middle, at any point; tests of crashes kill real processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from airflow_provider_imagegen.effects import Effect
from tests.batch.conftest import BatchLaboratory, prompts
from tests.failures.conftest import killed_at

ROWS = 12
OCCURRENCES = {
    Effect.CLAIM: (7,),
    Effect.SUBMIT: (7, 1),
    Effect.RECORD: (20, 1),
    Effect.PUT_IMAGE: (8,),
    Effect.PUT_MANIFEST: (1,),
}
POINTS = [
    pytest.param(which, moment, occurrence, marks=() if occurrence == occurrences[0] else pytest.mark.full)
    for which, occurrences in OCCURRENCES.items()
    for moment in ("before", "after")
    for occurrence in occurrences
]
"""Where a try is killed: once at every effect, and, if all is to be tested, at the first as well as in the middle."""


def die(laboratory: BatchLaboratory, which: Effect, moment: Any, occurrence: int, **ask: Any) -> None:
    with killed_at(which, moment, occurrence):
        asyncio.run(laboratory.batch(prompts(ROWS), **ask).begin())


def let_time_pass(laboratory: BatchLaboratory) -> None:
    """Let all that was sent arrive, and the claims grow as old as they are by a real retry."""
    laboratory.emulator.wait_until_idle()
    laboratory.age_claims()


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
