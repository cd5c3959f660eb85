"""The commands of ``airflow imagegen``, and their import cost for other Airflow commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

from airflow_provider_imagegen.cli import definition
from airflow_provider_imagegen.ledger.models import State
from airflow_provider_imagegen.operators.base import DEFAULT_LEDGER_KEY
from tests.airflow_versions import needs_provider_commands


class TestDefinition:
    @needs_provider_commands
    def test_imports_nothing_heavy(self) -> None:
        script = (
            "import sys, airflow.cli.cli_config; before = set(sys.modules);"
            "import airflow_provider_imagegen.cli.definition as it; it.get_imagegen_cli_commands();"
            "print(*sorted(set(sys.modules) - before))"
        )
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        added = done.stdout.splitlines()[-1].split()
        assert added == ["airflow_provider_imagegen.cli", "airflow_provider_imagegen.cli.definition"]

    def test_looks_where_the_operators_write(self) -> None:
        assert definition.DEFAULT_LEDGER_KEY == DEFAULT_LEDGER_KEY

    def test_knows_every_state(self) -> None:
        assert (*get_args(State), "unknown") == definition.STATES


class TestPage:
    def test_names_every_option(self) -> None:
        page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
        options = {flag for command in definition.LEDGER_COMMANDS for arg in command.args for flag in arg.flags}
        assert [option for option in options if option.startswith("--") and f"`{option}`" not in page] == []
