"""An operator whose worker is told to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.operators.deferral import stop_grace
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator
from tests.integration.conftest import Outcome


class ToldToStop(GenerateImageOperator):
    """Told while its connections are read, before there is anything to be stopped."""

    def _make_run(self, *args: Any, **kwargs: Any) -> Any:
        self.on_kill()
        return super()._make_run(*args, **kwargs)


class TestToldToStop:
    def test_while_connections_are_read_sends_nothing(
        self, run_task: Callable[..., Outcome], emulator: RunningEmulator
    ) -> None:
        outcome = run_task(operator=ToldToStop, deferrable=False)
        assert outcome.state == "failed"
        assert "TaskStopped" in outcome.log
        assert emulator.totals()["submits"] == 0

    def test_has_time_to_note_what_was_not_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__IMAGEGEN__STOP_GRACE", "0")
        assert stop_grace() == 5.0
        monkeypatch.setenv("AIRFLOW__IMAGEGEN__STOP_GRACE", "25")
        assert stop_grace() == 25.0
