"""Operators defer unless the deployment chose otherwise."""

from __future__ import annotations

import pytest

from airflow_provider_imagegen.operators.deferral import deferrable_by_default


class TestDeferrableByDefault:
    def test_is_yes_where_nobody_said_anything(self) -> None:
        assert deferrable_by_default() is True

    @pytest.mark.parametrize("choice", [True, False])
    def test_is_what_the_deployment_says(self, monkeypatch: pytest.MonkeyPatch, choice: bool) -> None:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", str(choice))
        assert deferrable_by_default() is choice
