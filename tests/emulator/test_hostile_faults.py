"""Faults of a gateway that attacks its clients: each does on the wire what its name says."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.emulator.hostile import LEVELS, MANY_IMAGES, ZIPPED_BYTES
from tests.emulator.conftest import LATENCY, Client


@pytest.fixture
def task_id(client: Client) -> str:
    """A finished task."""
    task_id = client.submit()
    client.clock.advance(LATENCY)
    return task_id


def looked_up(client: Client, task_id: str, kind: str, **details: Any) -> dict[str, Any]:
    client.emulator.arm("lookup", kind, **details)
    return client.look_up(id=task_id)


class TestRewrittenRecords:
    def test_hold_any_text_where_a_gateway_has_words(self, client: Client, task_id: str) -> None:
        record = looked_up(client, task_id, "odd_text", text="[/nope]\x1b[31m")
        assert record["response"]["data"][0]["revised_prompt"] == "[/nope]\x1b[31m"

    def test_hold_any_text_before_their_ids(self, client: Client, task_id: str) -> None:
        record = looked_up(client, task_id, "odd_ids", text="\x1bt0ken ")
        assert (record["id"], record["response"]["task_id"]) == (f"\x1bt0ken {task_id}",) * 2

    def test_have_a_request_id_of_that_text(self, client: Client, task_id: str) -> None:
        client.emulator.arm("lookup", "odd_ids", text="\x1bt0ken")
        assert client.post("/openai/tasks", id=task_id).headers["x-request-id"] == "t0ken"

    @pytest.mark.parametrize(("images", "count"), [(0, MANY_IMAGES), (3, 3)])
    def test_name_more_images_than_were_asked_for(self, client: Client, task_id: str, images: int, count: int) -> None:
        data = looked_up(client, task_id, "surplus", images=images)["response"]["data"]
        assert len(data) == count
        assert client.totals()["accepted_images"] == 1

    def test_name_another_address(self, client: Client, task_id: str) -> None:
        record = looked_up(client, task_id, "elsewhere", location="http://169.254.169.254/latest")
        assert record["response"]["data"] == [{"url": "http://169.254.169.254/latest"}]

    def test_hold_absurd_numbers(self, client: Client, task_id: str) -> None:
        response = looked_up(client, task_id, "absurd")["response"]
        assert len(str(response["created"])) == 401
        assert isinstance(response["usage"]["details"][0][0][0], list)

    def test_need_an_address_to_name(self, client: Client) -> None:
        with pytest.raises(httpx.HTTPStatusError, match="422"):
            client.emulator.arm("lookup", "elsewhere")


class TestBodies:
    def test_can_be_nested_too_deep_for_a_parser(self, client: Client, task_id: str) -> None:
        client.emulator.arm("lookup", "deep")
        content = client.post("/openai/tasks", id=task_id).content
        assert content.count(b"[") == LEVELS
        with pytest.raises(RecursionError):
            json.loads(content)

    @pytest.mark.parametrize(("coding", "layers"), [("gzip", 1), ("gzip, gzip", 2)])
    def test_can_be_bombs(self, client: Client, task_id: str, coding: str, layers: int) -> None:
        client.emulator.arm("lookup", "zip_bomb", coding=coding)
        with client.http.stream("POST", "/openai/tasks", json={"id": task_id}) as response:
            packed = b"".join(response.iter_raw())
        assert response.headers["content-encoding"] == coding
        assert len(packed) < ZIPPED_BYTES // 500
        unpacked = packed if layers == 1 else gzip.decompress(packed)
        assert int.from_bytes(unpacked[-4:], "little") == ZIPPED_BYTES

    def test_can_be_a_line_without_end(self, client: Client, task_id: str) -> None:
        client.emulator.arm("lookup", "endless", text="iVBORw0KGg")
        received = b""
        with client.http.stream("POST", "/openai/tasks", json={"id": task_id}) as response:
            for block in response.iter_bytes():
                received += block
                if len(received) > 1_000_000:
                    break
        assert received.startswith(b'data: {"b64_json": "iVBORw0KGgAAAA')
        assert b"\n" not in received

    def test_can_drip(self, client: Client, task_id: str) -> None:
        client.emulator.arm("lookup", "drip")
        with client.http.stream("POST", "/openai/tasks", json={"id": task_id}) as response:
            pieces = response.iter_raw()
            assert [next(pieces) for _ in range(3)] == [b" "] * 3

    def test_can_have_any_charset(self, client: Client, task_id: str) -> None:
        client.emulator.arm("lookup", "wrong_content_type", content_type="application/json; charset=hex")
        response = client.post("/openai/tasks", id=task_id)
        assert response.headers["content-type"] == "application/json; charset=hex"
        assert response.content.startswith(b'{"id"')
