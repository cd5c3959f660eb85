"""Any response of a synchronous gateway is parsed or raises a classified error; it never becomes a success."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_imagegen.exceptions import GatewayError
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.responses import error_of, read_error, read_outputs
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from tests.examples import examples

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
IMAGE = st.fixed_dictionaries(
    {}, optional={"url": ANYTHING, "b64_json": ANYTHING, "image_url": ANYTHING, "revised_prompt": ANYTHING}
)
ANSWER = st.fixed_dictionaries(
    {},
    optional={
        "data": st.lists(IMAGE | ANYTHING, max_size=3) | ANYTHING,
        "created": ANYTHING,
        "usage": ANYTHING,
        "size": ANYTHING,
        "task_id": ANYTHING,
        "error": ANYTHING
        | st.fixed_dictionaries({}, optional={"code": ANYTHING, "message": ANYTHING, "type": ANYTHING}),
        "detail": ANYTHING,
    },
)
EVENT = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["image_generation.partial_image", "image_generation.completed", "error"]) | ANYTHING,
        "b64_json": ANYTHING,
        "usage": ANYTHING,
        "created_at": ANYTHING,
        "error": ANYTHING,
    },
)
STATUSES = st.sampled_from([200, 202, 400, 401, 403, 404, 413, 429, 500, 502, 503, 504])
SYNCHRONOUS = [
    gateway_for(GatewaySettings(base_url="https://a.example", token="sesame-token", gateway=name))
    for name in ("openai", "apigo")
]


@pytest.mark.parametrize("gateway", SYNCHRONOUS, ids=lambda gateway: gateway.name)
class TestSynchronousGateways:
    @settings(max_examples=examples(500))
    @given(body=ANSWER | ANYTHING, status=STATUSES)
    def test_a_response(self, gateway: Any, body: object, status: int) -> None:
        try:
            task = gateway.read_submitted(httpx.Response(status, text=json.dumps(body)))
        except GatewayError as error:
            assert error.billed in {"no", "unknown"}
        else:
            assert status < 400
            assert task.state == "succeeded"
            assert task.outputs

    @settings(max_examples=examples(500))
    @given(events=st.lists(EVENT, max_size=4))
    def test_a_stream(self, gateway: Any, events: list[dict[str, Any]]) -> None:
        try:
            task = gateway.read_events(events)
        except GatewayError as error:
            assert error.billed in {"no", "unknown"}
        else:
            assert task is None or task.outputs


class TestReaders:
    @settings(max_examples=examples(500))
    @given(ANYTHING)
    def test_of_images(self, data: object) -> None:
        assert all(output.url or output.b64_json for output in read_outputs(data))

    @settings(max_examples=examples(500))
    @given(ANSWER)
    def test_of_errors(self, document: dict[str, Any]) -> None:
        words = read_error(document)
        assert words is None or words.message.strip()

    @settings(max_examples=examples(500))
    @given(body=st.binary(max_size=200), status=STATUSES, phase=st.sampled_from(["submit", "look_up"]))
    def test_of_any_bytes(self, body: bytes, status: int, phase: Any) -> None:
        error = error_of(httpx.Response(status, content=body), "openai", phase, "sesame-token")
        assert len(str(error).splitlines()) == 1
        assert "sesame-token" not in str(error)
