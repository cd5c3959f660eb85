"""The code in the docs runs unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator

DOCS = Path(__file__).parents[2] / "docs"


def test_python_api_page_runs(
    emulator: RunningEmulator, connections: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGEGEN_HOST", emulator.base_url)
    monkeypatch.setenv("IMAGEGEN_API_KEY", emulator.token)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "python-api.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"python-api.md, block {number}", "exec"), names)
    assert "size no" in capsys.readouterr().out


def test_gateways_page_names_every_gateway() -> None:
    from airflow_provider_imagegen.gateways import registered_gateways

    page = (DOCS / "gateways.md").read_text()
    for name, gateway in registered_gateways().items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert all(f"`{host}`" in row for host in gateway.hosts[:1])
        assert ("a task id" in row) == gateway.capabilities.tasks
        assert (" yes |" in row) == gateway.capabilities.streaming
        assert ("files" in row) == gateway.capabilities.edit_files
