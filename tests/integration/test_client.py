"""The client: what a request that fails stands for in each phase, and what is left on the disk while it lives."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.exceptions import (
    GatewayError,
    LookUpFailed,
    NotSent,
    OutcomeUnknown,
    RequestRefused,
    UnreadableResponse,
)
from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway
from airflow_provider_imagegen.gateways.base import Capabilities
from airflow_provider_imagegen.gateways.client import ImageClient
from airflow_provider_imagegen.gateways.openai import OpenAIGateway
from airflow_provider_imagegen.gateways.response_body import MAX_SKELETON_BYTES
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.schemas import ImageRequest
from tests.stack.result_host import Asked, ResultHost, whole
from tests.stack.waiting import HANG, scaled

IMAGE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(9000)).decode()
DATA_URL = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(90)).decode()


@pytest.fixture
async def client(record: dict[str, Any]) -> AsyncIterator[ImageClient]:
    """A client of a gateway that has one task."""
    body = json.dumps({"items": [record], "count": 1}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = GatewaySettings(base_url=f"http://127.0.0.1:{port}", token="t", gateway="acedatacloud")
        async with ImageClient(settings) as opened:
            yield opened


class TestImagesInLookups:
    @pytest.mark.parametrize(
        ("record", "state", "files"),
        [
            ({"id": "t1", "response": {"data": [{"b64_json": IMAGE}]}, "finished_at": None}, "running", 0),
            ({"id": "t1", "response": {"data": [{"b64_json": IMAGE}]}, "finished_at": 1.0}, "succeeded", 1),
            ({"id": "t1", "response": {"data": [{"url": DATA_URL}]}, "finished_at": 1.0}, "succeeded", 1),
        ],
    )
    async def test_stay_on_the_disk_only_if_somebody_holds_them(
        self, client: ImageClient, state: str, files: int
    ) -> None:
        tasks = await client.look_up(["t1"])
        assert tasks["t1"].state == state
        assert len(list(client._images.iterdir())) == files


class CancellingGateway(AceDataCloudGateway):
    """A gateway with a request in every phase."""

    capabilities = Capabilities(tasks=True, cancel=True)

    def cancel(self, task_id: str) -> httpx.Request:
        return self.request(self.url("/cancel"), {"id": task_id})


def response_of(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


IMAGE_IN_JSON = json.dumps({"data": [{"b64_json": IMAGE}], "items": []}).encode()
TOO_MUCH = b"x" * (MAX_SKELETON_BYTES + 1)

PHASES: dict[str, Callable[[ImageClient], Awaitable[object]]] = {
    "submit": lambda client: client.submit(ImageRequest(prompt="p", model="m"), "trace-1"),
    "look_up": lambda client: client.look_up(["t1"]),
    "cancel": lambda client: client.cancel("t1"),
    "check": lambda client: client.probe(),
}


class FailingServer:
    """Reads requests, and answers every one of them in the same way: not at all, or with these bytes."""

    def __init__(self, response: bytes) -> None:
        self.requests = 0
        self._response = response

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        writer.write(self._response)
        await writer.drain()
        writer.close()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[ImageClient]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        async with server, client_of(server.sockets[0].getsockname()[1]) as opened:
            yield opened


@asynccontextmanager
async def client_of(port: int, **changes: Any) -> AsyncIterator[ImageClient]:
    fields = {"base_url": f"http://127.0.0.1:{port}", "token": "sesame-token", "gateway": "acedatacloud"} | changes
    settings = GatewaySettings(**fields)
    async with ImageClient(settings) as opened:
        opened.gateway = CancellingGateway(settings)
        yield opened


async def fault_of(request: Awaitable[object]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await request
    assert "sesame-token" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("charset", ["hex", "zlib", "rot13", "idna", "undefined"])
class TestCharset:
    """Some charsets yield no text at all, and some take long."""

    @staticmethod
    def server(status: str, content_type: str, body: bytes) -> FailingServer:
        head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
        return FailingServer(head.encode() + body)

    async def test_of_an_error_page_is_ignored(self, charset: str) -> None:
        page = self.server("400 Bad Request", f"text/html; charset={charset}", "no kité".encode())
        async with page.client() as client:
            fault = await fault_of(PHASES["submit"](client))
        assert type(fault) is RequestRefused
        assert "no kité" in str(fault)

    async def test_of_a_stream_is_ignored(self, charset: str) -> None:
        event = json.dumps({"type": "image_generation.completed", "b64_json": IMAGE})
        stream = self.server("200 OK", f"text/event-stream; charset={charset}", f"data: {event}\n\n".encode())
        async with stream.client() as client:
            client.gateway = OpenAIGateway(client.settings)
            task = await client.submit(ImageRequest(prompt="p", stream=True), "trace-1")
        assert task.state == "succeeded"


@pytest.mark.parametrize("phase", PHASES)
class TestRequestThatFails:
    async def test_before_a_byte_left_was_not_sent(self, phase: str) -> None:
        # Port 9 is for discarding, and nobody listens there.
        async with client_of(9) as client:
            fault = await fault_of(PHASES[phase](client))
        assert type(fault) is (NotSent if phase == "submit" else LookUpFailed)
        assert fault.billed == ("no" if phase == "submit" else "unknown")

    @pytest.mark.parametrize(
        ("response", "kind"),
        [(b"", LookUpFailed), (response_of(b"{}")[:-1], LookUpFailed), (response_of(TOO_MUCH), UnreadableResponse)],
        ids=["no response", "half a response", "too large"],
    )
    async def test_after_it_left_is_unknown_where_it_was_paid_for(
        self, phase: str, response: bytes, kind: type
    ) -> None:
        server = FailingServer(response)
        async with server.client() as client:
            fault = await fault_of(PHASES[phase](client))
        assert type(fault) is (OutcomeUnknown if phase == "submit" else kind)
        assert fault.billed == "unknown"
        assert fault.trace_id == ("trace-1" if phase == "submit" else None)
        assert server.requests == 1

    async def test_because_its_response_cannot_be_stored(self, phase: str) -> None:
        server = FailingServer(response_of(IMAGE_IN_JSON))
        async with server.client() as client:
            client._images.rmdir()
            fault = await fault_of(PHASES[phase](client))
        assert type(fault) is (OutcomeUnknown if phase == "submit" else LookUpFailed)
        assert fault.message.startswith("the response came, and the image could not be kept in")
        assert server.requests == 1


async def trickle(asked: Asked) -> None:
    """Send JSON whose blanks never end."""
    await asked.send("200 OK\r\nContent-Type: application/json")
    while not asked.writer.is_closing():
        asked.writer.write(b" ")
        await asked.writer.drain()
        await asyncio.sleep(0)


class TestResponseThatTrickles:
    @pytest.mark.parametrize("phase", ["look_up", "cancel", "check"])
    async def test_ends_at_the_timeout_of_the_connection(self, phase: str) -> None:
        async with ResultHost(trickle) as host, client_of(host.port, timeout=scaled(1.0)) as client:
            fault = await fault_of(PHASES[phase](client))
        assert type(fault) is LookUpFailed
        assert "no whole response within" in fault.message

    async def test_ends_at_the_deadline_where_it_was_paid_for(self) -> None:
        async with ResultHost(trickle) as host, client_of(host.port, timeout=HANG) as client:
            request = ImageRequest(prompt="p", model="m")
            fault = await fault_of(client.submit(request, "trace-1", within=scaled(1.0)))
        assert type(fault) is OutcomeUnknown
        assert "no whole response within" in fault.message

    async def test_of_a_paid_request_may_take_longer_than_the_connection_may_be_silent(self) -> None:
        passed = asyncio.Event()

        async def slowly(asked: Asked) -> None:
            await asked.send("200 OK\r\nContent-Type: application/json")
            while not passed.is_set():
                asked.writer.write(b" ")
                await asked.writer.drain()
                await asyncio.sleep(0)
            asked.writer.write(b'{"task_id": "t1"}')

        timeout = scaled(1.0)
        async with ResultHost(slowly) as host, client_of(host.port, timeout=timeout) as client:
            asyncio.get_running_loop().call_later(2 * timeout, passed.set)
            task = await client.submit(ImageRequest(prompt="p", model="m"), "trace-1", within=HANG)
        assert task.task_id == "t1"


class ForeignGateway(CancellingGateway):
    """A gateway of somebody else, which builds its requests with what httpx gives."""

    def submit(self, request: ImageRequest, trace_id: str) -> httpx.Request:
        return httpx.Request("POST", self.submit_url, json={})


class TestHeadersOfEveryRequest:
    @pytest.mark.parametrize("phase", PHASES)
    @pytest.mark.parametrize("kind", [CancellingGateway, ForeignGateway])
    async def test_say_who_asks_and_what_can_be_unpacked(self, phase: str, kind: type[CancellingGateway]) -> None:
        async with ResultHost(whole(b"{}")) as host, client_of(host.port) as client:
            client.gateway = kind(client.settings)
            with suppress(GatewayError):
                await PHASES[phase](client)
        assert host.asked[0].headers["accept-encoding"] == "gzip, deflate"
        assert host.asked[0].headers["user-agent"].startswith("airflow-provider-imagegen/")

    @pytest.mark.parametrize("phase", PHASES)
    async def test_are_those_of_the_connection_where_it_has_some(self, phase: str) -> None:
        headers = {"User-Agent": "curl/8", "Accept-Encoding": "identity"}
        async with ResultHost(whole(b"{}")) as host, client_of(host.port, headers=headers) as client:
            with suppress(GatewayError):
                await PHASES[phase](client)
        assert host.asked[0].headers["accept-encoding"] == "identity"
        assert host.asked[0].headers["user-agent"] == "curl/8"


class TestUnaskedCoding:
    async def test_of_a_lookup_is_named(self) -> None:
        body = whole(b"\x8b\x00", "Content-Encoding: br")
        async with ResultHost(body) as host, client_of(host.port) as client:
            fault = await fault_of(client.look_up(["t1"]))
        assert type(fault) is UnreadableResponse
        assert "a body encoded as 'br', which was not asked for" in fault.message
