"""The provider's metadata and entry points."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from airflow_provider_imagegen.get_provider_info import get_provider_info
from tests.airflow_versions import needs_forms_without_hooks


@pytest.fixture
def airflow(
    airflow_database: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, str]]]:
    """Run one of Airflow's commands in this process: a new one takes seconds to start."""
    from airflow.cli import cli_parser

    # The command sets it; restore it for the next test.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")

    def run(*arguments: str) -> list[dict[str, str]]:
        parsed = cli_parser.get_parser().parse_args([*arguments, "--output", "json"])
        capfd.readouterr()
        parsed.func(parsed)
        listed: list[dict[str, str]] = json.loads(capfd.readouterr().out)
        return listed

    return run


Airflow = Callable[..., list[dict[str, str]]]


class TestCommandLine:
    def test_lists_the_provider(self, airflow: Airflow) -> None:
        providers = airflow("providers", "list")
        assert "airflow-provider-imagegen" in {provider["package_name"] for provider in providers}

    def test_lists_the_hook(self, airflow: Airflow) -> None:
        (hook,) = [hook for hook in airflow("providers", "hooks") if hook["connection_type"] == "imagegen"]
        assert hook["class"] == "airflow_provider_imagegen.hooks.imagegen.ImageGenHook"

    def test_loads_the_plugin(self, airflow: Airflow) -> None:
        assert "imagegen" in {plugin["name"] for plugin in airflow("plugins")}


FORM_WITHOUT_HOOK = """
import json, sys
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(form,) = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "imagegen"]
assert "airflow_provider_imagegen.hooks.imagegen" not in sys.modules
print(json.dumps(sorted(form.extra_fields)))
"""


@needs_forms_without_hooks
@pytest.mark.usefixtures("airflow_database")
class TestForm:
    def test_is_known_to_the_api_without_importing_the_hook(self) -> None:
        command = [sys.executable, "-c", FORM_WITHOUT_HOOK]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert {"gateway", "timeout", "max_in_flight"} <= set(json.loads(done.stdout.splitlines()[-1]))


class TestInfo:
    def test_follows_airflows_schema(self) -> None:
        from airflow.providers_manager import _create_provider_info_schema_validator

        _create_provider_info_schema_validator().validate(get_provider_info())

    def test_names_what_exists(self) -> None:
        from importlib import import_module

        info = get_provider_info()
        for kind in ("operators", "hooks", "triggers"):
            for entry in info[kind]:
                for module in entry["python-modules"]:
                    import_module(module)
        (connection,) = info["connection-types"]
        module, _, name = connection["hook-class-name"].rpartition(".")
        assert getattr(import_module(module), name).conn_type == connection["connection-type"]
