"""The gateway in the docs is complete, and it works."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from airflow_provider_imagegen.exceptions import OutcomeUnknown, RateLimited
from airflow_provider_imagegen.gateways import gateway_for, registered_gateways
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.schemas import ImageRequest

PAGE = Path(__file__).parents[2] / "docs" / "write-a-gateway.md"


@pytest.fixture
def code() -> str:
    match = re.search(r"<!-- gateway: start -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture
def gateway(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """The page's gateway, installed as a third party's package would be."""
    (tmp_path / "sub2api_gateway.py").write_text(code)
    metadata = tmp_path / "sub2api_gateway-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sub2api-gateway\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[airflow_provider_imagegen.gateways]\nsub2api = sub2api_gateway:Sub2ApiGateway\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registered_gateways.cache_clear()
    yield gateway_for(GatewaySettings(base_url="https://gpu.example", token="sesame-token", gateway="sub2api"))
    registered_gateways.cache_clear()
    sys.modules.pop("sub2api_gateway", None)


class TestTheGatewayInTheDocs:
    def test_is_at_most_40_lines(self, code: str) -> None:
        assert len(code.splitlines()) <= 40

    def test_submits_and_reads_the_task_id(self, gateway: Gateway) -> None:
        request = gateway.submit(ImageRequest(prompt="p", model="m"), "trace-1")
        assert str(request.url) == "https://gpu.example/v1/images/generations/async"
        assert gateway.read_submitted(httpx.Response(202, json={"task_id": "t1"})).task_id == "t1"

    @pytest.mark.parametrize(
        ("record", "state"),
        [
            ({"status": "processing"}, "running"),
            ({"status": "completed", "result": {"data": [{"url": "u"}]}}, "succeeded"),
            ({"status": "completed", "result": {}}, "running"),
            ({"status": "failed", "error": "no"}, "failed"),
        ],
    )
    def test_reads_every_state(self, gateway: Gateway, record: dict[str, object], state: str) -> None:
        assert gateway.read_looked_up(httpx.Response(200, json=record), ["t1"])["t1"].state == state

    def test_gets_its_errors_from_the_package(self, gateway: Gateway) -> None:
        with pytest.raises(RateLimited):
            gateway.read_submitted(httpx.Response(429, json={}))
        with pytest.raises(OutcomeUnknown):
            gateway.read_submitted(httpx.Response(200, json={}))
