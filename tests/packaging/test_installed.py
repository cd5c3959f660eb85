"""The wheel, installed into a plain Airflow and used outside the checkout."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_provider_imagegen import __version__
from tests.airflow_versions import needs_declared_forms
from tests.packaging.conftest import Command

# The first of them installs Airflow, where there is no environment yet.

FORM = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(form,) = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "imagegen"]
print(json.dumps(sorted(form.extra_fields)))
"""
DAG = """
from airflow.sdk import DAG
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator

with DAG("shots", schedule=None) as dag:
    GenerateImageOperator(task_id="shoot", prompt="a red kite", model="gpt-image-1", s3_bucket="images")
print(dag.task_ids)
"""


class TestAirflow:
    def test_lists_the_provider(self, run: Command) -> None:
        listed = json.loads(run("airflow", "providers", "list", "--output", "json"))
        (ours,) = [each for each in listed if each["package_name"] == "airflow-provider-imagegen"]
        assert ours["version"] == __version__

    def test_shows_the_plugin(self, run: Command) -> None:
        plugins = json.loads(run("airflow", "plugins", "--output", "json"))
        assert "imagegen" in {plugin["name"] for plugin in plugins}

    @needs_declared_forms
    def test_makes_the_connections_form(self, run: Command) -> None:
        fields = json.loads(run("python", "-c", FORM).splitlines()[-1])
        assert {"gateway", "timeout", "max_in_flight"} <= set(fields)

    def test_parses_a_dag(self, run: Command, tmp_path: Path) -> None:
        (tmp_path / "shots.py").write_text(DAG)
        assert run("python", "shots.py").splitlines()[-1] == "['shoot']"


class TestPackage:
    def test_is_the_wheel_and_not_the_checkout(self, run: Command, binaries: Path) -> None:
        place = run("python", "-c", "import airflow_provider_imagegen as it; print(it.__file__)").strip()
        assert Path(place).is_relative_to(binaries.parent)

    def test_comes_without_what_only_testers_need(self, run: Command) -> None:
        ask = "from importlib.util import find_spec; print([name for name in %r if find_spec(name)])"
        assert run("python", "-c", ask % ["airflow", "pytest", "hypothesis", "sphinx"]).strip() == "['airflow']"
