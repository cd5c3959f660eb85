"""A short run of random kills: a dozen tasks, eight kills, a fixed seed."""

from __future__ import annotations

import shutil
import sys

import pytest

from tests.chaos.experiment import Outcome, Plan, run_experiment
from tests.chaos.journal import Journal
from tests.stack.environment import CACHE
from tests.stack.waiting import HANG

# The crash tests kill workers at every point, one whole Airflow a triggerer: this is the random rest.
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc"),
]
PLAN = Plan(kills=8, seed=7, tasks=12, runs=1, latency="3-18", pause=3.0, parallelism=6, end_timeout=HANG)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    logs = CACHE / "chaos-test"
    shutil.rmtree(logs, ignore_errors=True)
    journal = Journal(logs / "journal.log")
    try:
        return run_experiment(PLAN, journal, logs)
    finally:
        journal.close()


class TestRandomKills:
    def test_bill_nothing_twice_and_lose_nothing(self, outcome: Outcome) -> None:
        assert outcome.audit.findings == ()
        assert (outcome.audit.duplicates, outcome.audit.lost) == (0, 0)
        assert outcome.audit.landed == outcome.audit.billed == 16 * outcome.runs

    def test_leave_every_run_finished(self, outcome: Outcome) -> None:
        assert outcome.unfinished == 0
        assert outcome.tasks == 12 * outcome.runs

    def test_hit_tries_with_open_requests(self, outcome: Outcome) -> None:
        assert sum(outcome.kills.values()) == PLAN.kills
        assert outcome.tries > outcome.tasks
        assert outcome.history.helped
