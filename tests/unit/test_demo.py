"""The demo that is kept running has what its users try next."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_imagegen.catalog.prices import read_prices
from tests.stack import demo
from tests.stack.gateway import Gateway
from tests.stack.stack import EXAMPLES

AIRFLOWS_PARALLELISM = 32


@pytest.fixture
def dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(demo, "DAGS", tmp_path / "dags")
    return tmp_path / "dags"


class TestKept:
    @pytest.fixture(autouse=True)
    def _kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEEP", "1")

    def test_has_schedules_and_a_folder_for_dags(self, dags: Path) -> None:
        options = demo._options(None)
        assert options.settings["scheduler.use_job_schedule"] == "True"
        assert (options.dag_folders, dags.is_dir()) == ((EXAMPLES, dags), True)


class TestNotKept:
    @pytest.fixture(autouse=True)
    def _not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KEEP", raising=False)

    def test_starts_nothing_but_its_own_run(self, dags: Path) -> None:
        options = demo._options(None)
        assert "scheduler.use_job_schedule" not in options.settings
        assert (options.dag_folders, dags.exists()) == ((EXAMPLES,), False)

    def test_knows_what_the_emulator_costs_and_not_what_a_real_api_does(self) -> None:
        assert read_prices(demo._options(None).connection_extra["prices"])
        assert demo._options(Gateway("https://api.example", "token")).connection_extra == {}

    def test_leaves_a_laptop_usable(self) -> None:
        assert demo._options(None).parallelism < AIRFLOWS_PARALLELISM
