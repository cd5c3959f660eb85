"""The gallery can be switched off."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from airflow_provider_imagegen.links.imagegen import ImagesLink
from airflow_provider_imagegen.plugins import imagegen as plugin

KEY = SimpleNamespace(dag_id="nightly", run_id="once", task_id="generate", map_index=-1)


@pytest.fixture
def switched_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as context:
        context.setenv("AIRFLOW__IMAGEGEN__GALLERY", "False")
        # Airflow reads a plugin once, when a process starts.
        importlib.reload(plugin)
        yield
    importlib.reload(plugin)


class TestGallery:
    def test_is_there_by_default(self) -> None:
        assert len(plugin.ImageGenPlugin.fastapi_apps) == 1
        assert len(plugin.ImageGenPlugin.external_views) == 2
        assert ImagesLink().get_link(None, ti_key=KEY).endswith("/dags/nightly/runs/once/plugin/imagegen-run")

    @pytest.mark.usefixtures("switched_off")
    def test_can_be_switched_off_with_its_link(self) -> None:
        assert plugin.ImageGenPlugin.fastapi_apps == []
        assert plugin.ImageGenPlugin.external_views == []
        assert ImagesLink().get_link(None, ti_key=KEY) == ""
