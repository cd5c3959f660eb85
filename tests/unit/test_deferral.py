"""Operators defer unless the environment says otherwise."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_imagegen.operators.deferral import deferrable_by_default, log_deferral, minimum_deferral
from airflow_provider_imagegen.schemas import OpenTask, SlotWait, Submission


class TestDeferrableByDefault:
    def test_is_yes_by_default(self) -> None:
        assert deferrable_by_default() is True

    def test_is_yes_where_only_a_generated_configuration_file_says_no(self, tmp_path: Path) -> None:
        script = "from airflow_provider_imagegen.operators.deferral import deferrable_by_default as d; print(d())"
        (tmp_path / "airflow.cfg").write_text("[operators]\ndefault_deferrable = false\n")
        command = [sys.executable, "-c", script]
        done = subprocess.run(
            command, env=os.environ | {"AIRFLOW_HOME": str(tmp_path)}, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "True"

    @pytest.mark.parametrize("choice", [True, False])
    def test_is_what_the_environment_says(self, monkeypatch: pytest.MonkeyPatch, choice: bool) -> None:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", str(choice))
        assert deferrable_by_default() is choice


class TestMinimumDeferral:
    def test_is_seven_seconds_by_default(self) -> None:
        assert minimum_deferral() == 7

    @pytest.mark.parametrize(("choice", "seconds"), [("30", 30), ("0.5", 0.5), ("0", 0), ("-1", 0)])
    def test_is_what_the_configuration_says_and_never_negative(
        self, monkeypatch: pytest.MonkeyPatch, choice: str, seconds: float
    ) -> None:
        monkeypatch.setenv("AIRFLOW__IMAGEGEN__MINIMUM_DEFERRAL", choice)
        assert minimum_deferral() == seconds


class TestLog:
    OPEN = OpenTask(index=0, count=1, task_id="t", scope="s", fingerprint="f", generation=1)

    @pytest.mark.parametrize(("open_tasks", "said"), [((), "unsubmitted"), ((OPEN,), "partly submitted")])
    def test_says_how_much_of_a_request_that_waits_for_a_slot_is_submitted(
        self, caplog: pytest.LogCaptureFixture, open_tasks: tuple[OpenTask, ...], said: str
    ) -> None:
        slot = SlotWait(since=0, refusals=2)
        with caplog.at_level(logging.INFO):
            log_deferral(Submission(submitted_at=0, deadline=60, open=open_tasks, slot=slot), "acedatacloud", 60)
        assert f"Deferred, {said}: acedatacloud has no free slot" in caplog.text
