"""A batch that is killed at any point; tests of crashes kill real processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from airflow_provider_imagegen.failpoints import Failpoint
from tests.batch.conftest import BatchHarness, prompts
from tests.failures.conftest import killed_at

ROWS = 12
OCCURRENCES = {
    Failpoint.CLAIM: (7,),
    Failpoint.SUBMIT: (7, 1),
    Failpoint.RECORD: (20, 1),
    Failpoint.PUT_IMAGE: (8,),
    Failpoint.PUT_MANIFEST: (1,),
}
POINTS = [
    pytest.param(which, moment, occurrence, marks=() if occurrence == occurrences[0] else pytest.mark.full)
    for which, occurrences in OCCURRENCES.items()
    for moment in ("before", "after")
    for occurrence in occurrences
]
"""Points at which a try is killed: once at every effect; with ``--full`` at the first one and in the middle."""


def die(harness: BatchHarness, which: Failpoint, moment: Any, occurrence: int, **ask: Any) -> None:
    with killed_at(which, moment, occurrence):
        asyncio.run(harness.batch(prompts(ROWS), **ask).begin())


def let_time_pass(harness: BatchHarness) -> None:
    """Let all that was sent arrive, and the claims grow as old as they are by a real retry."""
    harness.emulator.wait_until_idle()
    harness.age_claims()


class TestKilledInTheMiddle:
    @pytest.mark.parametrize(("which", "moment", "occurrence"), POINTS)
    def test_retry_pays_for_no_row_twice(
        self, harness: BatchHarness, which: Failpoint, moment: Any, occurrence: int
    ) -> None:
        harness.emulator.change(latency=0.1)
        die(harness, which, moment, occurrence, max_in_flight=4)
        let_time_pass(harness)
        summary = harness.run(prompts(ROWS), try_number=2, max_in_flight=4)
        assert (summary.landed, summary.billed) == (ROWS, ROWS)
        assert harness.billed == ROWS
        per_prompt = Counter(row["prompt"] for row in harness.emulator.ledger()["rows"] if row["due"])
        assert set(per_prompt.values()) == {1}
        assert len(harness.names()) == ROWS


class TestClearedAfterSuccess:
    def test_returns_the_same_and_bills_nothing(self, harness: BatchHarness) -> None:
        harness.run(prompts(5))
        before = [line["images"][0]["sha256"] for line in harness.lines()]
        summary = harness.run(prompts(5), try_number=2, epoch=1)
        assert [line["images"][0]["sha256"] for line in harness.lines()] == before
        assert (summary.reused, harness.billed) == (5, 5)
