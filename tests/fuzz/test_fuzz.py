"""Damaged images and responses are accepted or refused without other errors: fixed ones, and new ones every time."""

from __future__ import annotations

import secrets
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.fuzz.__main__ import main
from tests.fuzz.campaign import Campaign
from tests.fuzz.targets import SHARES, TARGETS, Target


def assert_tolerated(seed: int, cases: int) -> Campaign:
    campaign = Campaign(seed)
    campaign.run(lambda done, _: done < cases)
    assert campaign.finding is None, str(campaign.finding)
    assert campaign.cases == cases
    return campaign


class TestDamage:
    def test_of_a_fixed_seed_is_tolerated(self) -> None:
        campaign = assert_tolerated(20_261_120, examples(20_000))
        ends = {outcome for _, outcome in campaign.outcomes}
        assert {"png", "jpg", "webp", "gif", "svg", "refused", "added", "already-stated", "unsupported"} < ends
        assert {"json", "no json", "too large", "decoded"} < ends
        assert {"succeeded", "OutcomeUnknown", "LookUpFailed", "found", "unreadable", "read, landed"} < ends

    def test_of_a_random_seed_is_tolerated(self) -> None:
        assert_tolerated(secrets.randbelow(1 << 32), examples(5_000))

    @pytest.mark.parametrize("name", SHARES)
    @settings(max_examples=examples(150))
    @given(random=st.randoms(use_true_random=False))
    def test_of_each_target_is_tolerated(self, name: str, random: Random) -> None:
        target = TARGETS[name]
        target.run(target.make(random))


class TestCommand:
    @pytest.mark.parametrize("name", SHARES)
    def test_can_name_every_target_among_others(self, name: str) -> None:
        assert name.split() == [name]

    def test_reports_what_came_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--cases", "50", "--seed", "7"]) == 0
        printed = capsys.readouterr().out
        assert "Seed 7" in printed
        assert "50 cases" in printed

    def test_fuzzes_only_what_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--cases", "9", "--target", "base64", "--target", "metadata"]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert {line.split()[0] for line in printed if line.startswith("  ")} <= {"base64", "metadata"}

    def test_saves_what_nobody_classified_and_runs_it_again(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
    ) -> None:
        def run(_: bytes) -> str:
            raise KeyError("nobody expects it")

        monkeypatch.chdir(str(tmp_path))
        monkeypatch.setitem(TARGETS, "verify", Target(TARGETS["verify"].make, run))
        assert main(["--cases", "500", "--seed", "7"]) == 1
        printed = capsys.readouterr().out
        assert "nobody expects it" in printed
        assert "of seed 7, target 'verify'" in printed
        saved = printed.rsplit("Saved: ", 1)[1].strip()
        with pytest.raises(KeyError, match="nobody"):
            main(["--again", saved])
