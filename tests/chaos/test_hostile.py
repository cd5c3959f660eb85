"""A hostile gateway: every attack once on a whole Airflow; and the audit finds every kind of error."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from itertools import islice

import pytest

from airflow_provider_imagegen.emulator.faults import Fault
from tests.chaos.hostile.audit import Ended, Phase, misses, unclassified, unexpected
from tests.chaos.hostile.cases import CASES, attacks
from tests.chaos.hostile.evidence import KNOWN, paid_twice
from tests.chaos.hostile.experiment import Plan, run_hostile
from tests.chaos.journal import Journal
from tests.stack.environment import CACHE

TASK = Ended(
    row="C1",
    case="long prompt",
    prompt="one",
    expected=frozenset({"landed"}),
    state="success",
    tries=1,
    landed=1,
    failures=(),
    exceptions=(),
)


class TestAttacks:
    def test_are_reproducible_for_the_same_seed(self) -> None:
        assert list(islice(attacks(7), 100)) == list(islice(attacks(7), 100))
        assert list(islice(attacks(7), 100)) != list(islice(attacks(8), 100))

    def test_are_all_made_before_one_is_made_again(self) -> None:
        assert {attack.case.name for attack in islice(attacks(7), len(CASES))} == {case.name for case in CASES}
        assert {case.row for case in CASES} >= {"C1", "C2", "C5", "C6", "C7", "C8", "C9", "C10"}

    def test_are_faults_of_the_emulator(self) -> None:
        faults = [Fault.model_validate(attack.fault) for attack in islice(attacks(7), 10 * len(CASES))]
        assert len({fault.prompt for fault in faults}) == len(faults)


class TestAudit:
    def test_finds_nothing_where_all_is_well(self) -> None:
        failed = dataclasses.replace(TASK, expected=frozenset(), landed=0, failures=[("OutcomeUnknown", "unknown")])
        assert list(unclassified([TASK, failed], KNOWN)) == list(unexpected([TASK, failed])) == []

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"exceptions": ["OverflowError"]}, "OverflowError in its log"),
            ({"exceptions": ["ImageGenError"]}, "ImageGenError in its log"),
            ({"failures": [("ImageGenError", "unknown")]}, "failed with ImageGenError"),
            ({"failures": [("DownloadFailed", "perhaps")]}, "failed with DownloadFailed"),
            ({"landed": 0, "state": "failed"}, "failed, and says neither"),
        ],
    )
    def test_finds_what_nobody_classified(self, change: dict[str, object], words: str) -> None:
        (found,) = unclassified([dataclasses.replace(TASK, **change)], KNOWN)  # type: ignore[arg-type]
        assert words in found

    def test_finds_an_end_that_an_attack_must_not_have(self) -> None:
        lost = dataclasses.replace(TASK, landed=0, failures=[("OutcomeUnknown", "unknown")])
        assert list(unexpected([lost])) == ["one: ended as OutcomeUnknown, not landed"]

    def test_finds_figures_that_were_missed(self) -> None:
        calm = Phase("alone", fair=[5.0, 6.0], heartbeat=1.0, triggerer=300.0, worker=200.0)
        assert list(misses(calm, calm, calm)) == []
        hit = Phase("attacked", fair=[5.0, 11.0], heartbeat=5.1, blocked=274.0, triggerer=401.0, worker=301.0)
        assert len(list(misses(calm, calm, hit))) == 5

    def test_finds_a_prompt_that_was_billed_twice(self) -> None:
        row = {"task_id": "1", "prompt": "one", "due": 1}
        refused = {"task_id": None, "prompt": "one", "due": 0}
        assert paid_twice([row, refused]) == []
        assert paid_twice([row, refused, row]) == ["'one' was billed 2 images"]


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="measures in /proc")
class TestWholeAirflow:
    def test_classifies_whatever_a_hostile_gateway_does(self) -> None:
        logs = CACHE / "hostile-test"
        shutil.rmtree(logs, ignore_errors=True)
        journal = Journal(logs / "journal.log")
        try:
            outcome = run_hostile(Plan(seed=7, cases=len(CASES), baseline=0.0), journal, logs)
        finally:
            journal.close()
        # What it took is measured by `make hostile`, on a machine that does nothing else.
        assert outcome.findings == []
        assert {task.case for task in outcome.ended} == {case.name for case in CASES}
