"""The state of an Ace Data Cloud task is derived from its record, which has no status field."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_imagegen.exceptions import GatewayError, LookUpFailed
from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.schemas import ImageTask
from tests.examples import examples

GATEWAY = AceDataCloudGateway(GatewaySettings(base_url="https://api.example.com", token="sesame-token"))
IMAGE = {"url": "https://cdn.example.com/1.png?sig=abc"}


def record_state(record: dict[str, object]) -> ImageTask:
    answer = httpx.Response(200, json=record)
    return GATEWAY.read_looked_up(answer, ["t1"])["t1"]


class TestStateOfARecord:
    @pytest.mark.parametrize(
        ("record", "state"),
        [
            pytest.param({}, "unseen", id="no record at all"),
            pytest.param(
                {"id": "t1", "response": {"data": [IMAGE]}, "finished_at": 1.0},
                "succeeded",
                id="finished, image",
            ),
            pytest.param({"id": "t1", "response": {"data": [IMAGE]}}, "succeeded", id="old record, image"),
            pytest.param(
                {"id": "t1", "response": {"data": [IMAGE]}, "finished_at": None},
                "running",
                id="only a preview",
            ),
            pytest.param(
                {
                    "id": "t1",
                    "response": {"success": False, "error": {"code": "api_error"}},
                    "finished_at": None,
                },
                "failed",
                id="error with a code",
            ),
            pytest.param(
                {"id": "t1", "response": {"success": False, "error": "broken"}, "finished_at": 2.0},
                "failed",
                id="finished, error in words",
            ),
            pytest.param(
                {"id": "t1", "response": {"success": False, "error": "queueing"}, "finished_at": None},
                "running",
                id="an error text alone is not final",
            ),
            pytest.param({"id": "t1", "response": {}, "finished_at": 2.0}, "failed", id="finished without image"),
            pytest.param({"id": "t1", "response": None, "finished_at": None}, "running", id="no response yet"),
            pytest.param({"id": "t1", "started_at": 1.0}, "running", id="response absent"),
            pytest.param(
                {"id": "t1", "response": {"success": True, "task_id": "t1"}, "finished_at": None},
                "running",
                id="accepted",
            ),
        ],
    )
    def test_follows_the_table(self, record: dict[str, object], state: str) -> None:
        assert record_state(record).state == state

    def test_failure_carries_the_gateways_code_and_words(self) -> None:
        record = {
            "id": "t1",
            "trace_id": "tr1",
            "response": {"success": False, "error": {"code": "moderation_blocked", "message": "no"}},
            "finished_at": 3.0,
        }
        task = record_state(record)
        assert task.failure is not None
        assert (task.failure.code, task.failure.message, task.trace_id) == ("moderation_blocked", "no", "tr1")

    @pytest.mark.parametrize("field", ["url", "image_url", "b64_json"])
    def test_an_image_may_be_called_by_any_of_its_names(self, field: str) -> None:
        record = {"id": "t1", "response": {"data": [{field: "x"}]}, "finished_at": 1.0}
        assert record_state(record).state == "succeeded"


class TestBulkLookup:
    def test_matches_by_id_whatever_the_order_and_misses_what_is_absent(self) -> None:
        answer = httpx.Response(
            200, json={"items": [{"id": "b", "finished_at": 1.0}, {"id": "a", "response": None}], "count": 2}
        )
        tasks = GATEWAY.read_looked_up(answer, ["a", "b", "c"])
        assert {task_id: task.state for task_id, task in tasks.items()} == {
            "a": "running",
            "b": "failed",
            "c": "unseen",
        }

    def test_by_trace_id_prefers_the_task_that_did_not_fail(self) -> None:
        failed = {
            "id": "t1",
            "trace_id": "tr",
            "response": {"success": False, "error": {"code": "x"}},
            "finished_at": 1.0,
        }
        running = {"id": "t2", "trace_id": "tr", "response": None}
        for items in ([failed, running], [running, failed]):
            answer = httpx.Response(200, json={"items": items, "count": 2})
            assert GATEWAY.read_looked_up(answer, ["tr"], "trace_id")["tr"].task_id == "t2"

    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"success": True},
            {"error": None},
            {"items": [], "count": 1},
            {"items": None},
            {"items": [{"id": "t1", "trace_id": "another"}], "count": 1},
            {"id": "t1", "finished_at": None},
        ],
    )
    def test_by_trace_id_takes_nothing_but_an_empty_list_for_absence(self, document: dict[str, object]) -> None:
        with pytest.raises(LookUpFailed):
            GATEWAY.read_looked_up(httpx.Response(200, json=document), ["tr"], "trace_id")
        empty = httpx.Response(200, json={"items": [], "count": 0})
        assert GATEWAY.read_looked_up(empty, ["tr"], "trace_id")["tr"].state == "unseen"

    def test_always_sends_the_limit(self) -> None:
        request = GATEWAY.look_up([f"t{number}" for number in range(30)])
        assert b'"limit":30' in request.content.replace(b" ", b"")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
record_like = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("t1") | json_values,
        "trace_id": json_values,
        "finished_at": json_values,
        "items": json_values,
        "response": st.fixed_dictionaries(
            {},
            optional={
                "data": json_values,
                "success": json_values,
                "error": json_values,
                "usage": json_values,
            },
        )
        | json_values,
    },
)


class TestAnyResponseIsParsedOrAClassifiedError:
    @settings(max_examples=examples(500))
    @given(body=record_like | json_values, status=st.sampled_from([200, 201, 400, 401, 404, 429, 500, 503]))
    def test_look_up(self, body: object, status: int) -> None:
        try:
            tasks = GATEWAY.read_looked_up(httpx.Response(status, text=json.dumps(body)), ["t1"])
        except GatewayError as error:
            assert error.gateway == "acedatacloud"
        else:
            assert tasks["t1"].task_id == "t1"
            assert (tasks["t1"].state == "succeeded") == bool(tasks["t1"].outputs)

    @settings(max_examples=examples(500))
    @given(
        body=st.fixed_dictionaries(
            {},
            optional={
                "task_id": json_values,
                "data": json_values,
                "error": json_values,
                "usage": json_values,
            },
        )
        | json_values,
        status=st.sampled_from([200, 202, 400, 401, 404, 429, 500, 503]),
    )
    def test_submit(self, body: object, status: int) -> None:
        try:
            task = GATEWAY.read_submitted(httpx.Response(status, text=json.dumps(body)))
        except GatewayError as error:
            assert error.gateway == "acedatacloud"
        else:
            assert task.outputs or task.task_id
