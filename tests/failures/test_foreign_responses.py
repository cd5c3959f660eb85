"""Responses of synchronous gateways and their copies, in every spelling that was seen, land or are classified."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import io
import json
import random
import struct
import textwrap
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from PIL import Image

from airflow_provider_imagegen.engine.outcome import SURPLUS
from airflow_provider_imagegen.exceptions import ImageGenError, ModerationBlocked, OutcomeUnknown, OutOfBalance
from airflow_provider_imagegen.schemas import Manifest
from tests.failures.conftest import GRACE, PASSING, Harness
from tests.stack.result_host import Asked, ResultHost, says, whole


@pytest.fixture
async def gateway(harness: Harness) -> AsyncIterator[ResultHost]:
    """A gateway that speaks OpenAI's protocol, byte for byte as a test has it."""
    async with ResultHost() as host:
        base_url = f"http://127.0.0.1:{host.port}"
        harness.settings = dataclasses.replace(harness.settings, gateway="openai", base_url=base_url)
        yield host


async def attempt(harness: Harness, **request: Any) -> Manifest:
    manifest = await harness.work(**request).begin()
    assert isinstance(manifest, Manifest)
    return manifest


def png(size: int) -> bytes:
    """An image of so many bytes, in whose base64 both alphabets differ."""
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    content = buffer.getvalue()
    chunk = b"prVt" + random.Random(size).randbytes(size - len(content) - 12)
    inserted = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content[:33] + inserted + content[33:]


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def answer(*outputs: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"created": 1, "data": outputs, **fields}).encode()


SPELLINGS: dict[str, Callable[[bytes], dict[str, str]]] = {
    "data URL in url": lambda content: {"url": f"data:image/png;base64,{encoded(content)}"},
    "data URL of any type": lambda content: {"url": f"DATA:;base64,{encoded(content)}"},
    "data URL in b64_json": lambda content: {"b64_json": f"data:image/png;base64,{encoded(content)}"},
    "line breaks": lambda content: {"b64_json": "\r\n".join(textwrap.wrap(encoded(content), 76))},
    "URL-safe alphabet": lambda content: {"b64_json": base64.urlsafe_b64encode(content).decode()},
    "no padding": lambda content: {"b64_json": encoded(content).rstrip("=")},
}


@pytest.mark.usefixtures("gateway")
class TestBase64:
    @pytest.mark.parametrize("spelling", SPELLINGS)
    async def test_lands_in_every_spelling_and_size(self, harness: Harness, gateway: ResultHost, spelling: str) -> None:
        # 4,096 letters are where images begin to be decoded as they arrive.
        images = [png(size) for size in (500, 3071, 3072, 3073, 12_000)]
        gateway.answers = [whole(answer(*map(SPELLINGS[spelling], images)))]
        manifest = await attempt(harness, model="dall-e-2", size="256x256", n=len(images))
        assert [image.sha256 for image in manifest.images] == [hashlib.sha256(image).hexdigest() for image in images]

    @pytest.mark.parametrize("size", [500, 12_000])
    async def test_that_is_damaged_is_not_shown(self, harness: Harness, gateway: ResultHost, size: int) -> None:
        text = encoded(png(size))
        gateway.answers = [whole(answer({"url": f"data:image/png;base64,{text}!"}))]
        with pytest.raises(ImageGenError, match="not base64 to its end") as caught:
            await attempt(harness)
        assert text[40:80] not in str(caught.value)


SMALL, LARGE = png(500), png(90_000)
COMPLETED = "image_generation.completed"


def event(document: object, name: str | None = None) -> str:
    line = f"data: {json.dumps(document, ensure_ascii=False)}\n\n"
    return f"event: {name}\n{line}" if name else line


def completed(content: bytes, **fields: Any) -> dict[str, Any]:
    return {"type": COMPLETED, "b64_json": encoded(content), **fields}


DIALECTS: dict[str, Callable[[bytes], str]] = {
    "as OpenAI": lambda content: event(completed(content), COMPLETED),
    "type in the event line only": lambda content: event({"b64_json": encoded(content)}, COMPLETED),
    "the plain response in one event": lambda content: event({"created": 1, "data": [{"b64_json": encoded(content)}]}),
    "completed with a data list": lambda content: event({"type": COMPLETED, "data": [{"b64_json": encoded(content)}]}),
    "no blank line at the end": lambda content: event(completed(content)).rstrip("\n"),
    "carriage returns": lambda content: event(completed(content)).replace("\n", "\r"),
    "comments and blank lines": lambda content: "\n\n: it's alive\n\n" + event(completed(content)),
    "byte order mark": lambda content: "\ufeff" + event(completed(content)),
    "line separators in a text": lambda content: event(completed(content, revised_prompt="a\u2028b\u0085c")),
    "no stream at all": lambda content: json.dumps({"data": [{"b64_json": encoded(content)}]}, indent=1),
}
LABELS = ["text/event-stream", "Text/Event-Stream; charset=utf-8", "application/json", "text/plain"]


@pytest.mark.usefixtures("gateway")
class TestStream:
    @pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("dialect", DIALECTS)
    async def test_lands_in_every_dialect(
        self, harness: Harness, gateway: ResultHost, dialect: str, content: bytes
    ) -> None:
        gateway.answers = [whole(DIALECTS[dialect](content).encode(), "Content-Type: text/event-stream")]
        manifest = await attempt(harness, stream=True)
        assert [image.sha256 for image in manifest.images] == [hashlib.sha256(content).hexdigest()]

    @pytest.mark.parametrize("label", LABELS)
    async def test_lands_whatever_it_is_labelled(self, harness: Harness, gateway: ResultHost, label: str) -> None:
        gateway.answers = [whole(event(completed(LARGE)).encode(), f"Content-Type: {label}")]
        assert (await attempt(harness, stream=True)).delivered == 1

    async def test_lands_byte_by_byte(self, harness: Harness, gateway: ResultHost) -> None:
        async def drip(asked: Asked) -> None:
            await asked.send("200 OK\r\nContent-Type: application/json")
            for byte in event(completed(SMALL)).encode():
                asked.writer.write(bytes([byte]))
                await asked.writer.drain()
                await asyncio.sleep(0)

        gateway.answers = [drip]
        assert (await attempt(harness, stream=True)).delivered == 1

    async def test_lands_before_its_end(self, harness: Harness, gateway: ResultHost) -> None:
        async def stays_open(asked: Asked) -> None:
            await asked.send("200 OK\r\nContent-Type: text/event-stream", event(completed(LARGE)).encode())
            await asked.reader.read()

        gateway.answers = [stays_open]
        assert (await attempt(harness, stream=True)).delivered == 1

    async def test_is_not_split_at_line_separators_within_a_text(self, harness: Harness, gateway: ResultHost) -> None:
        gateway.answers = [whole(event(completed(SMALL, revised_prompt="a\u2028b\u0085c")).encode())]
        manifest = await attempt(harness, stream=True)
        # The second is a control character, which text from outside loses.
        assert manifest.images[0].revised_prompt == "a\u2028bc"

    @pytest.mark.parametrize(
        ("code", "kind"), [("moderation_blocked", ModerationBlocked), ("insufficient_quota", OutOfBalance)]
    )
    @pytest.mark.parametrize("name", ["error", "image_generation.failed"])
    async def test_of_an_error_named_by_its_event_line_is_classified(
        self, harness: Harness, gateway: ResultHost, name: str, code: str, kind: type[Exception]
    ) -> None:
        gateway.answers = [whole(event({"code": code, "message": "no"}, name).encode())]
        with pytest.raises(kind):
            await attempt(harness, stream=True)

    async def test_that_trickles_ends_at_the_deadline(self, harness: Harness, gateway: ResultHost) -> None:
        async def trickle(asked: Asked) -> None:
            await asked.send("200 OK\r\nContent-Type: text/event-stream")
            while not asked.writer.is_closing():
                asked.writer.write(b": alive\n\n")
                await asked.writer.drain()
                await asyncio.sleep(0)

        gateway.answers = [trickle]
        harness.settings = dataclasses.replace(harness.settings, timeout=GRACE)
        with pytest.raises(OutcomeUnknown, match="no whole response within"):
            await attempt(harness, stream=True, timeout=PASSING)


@pytest.mark.usefixtures("gateway")
class TestMoreImagesThanAsked:
    @pytest.mark.parametrize("many", [2, 2000])
    async def test_land_up_to_a_small_surplus(
        self, harness: Harness, gateway: ResultHost, caplog: pytest.LogCaptureFixture, many: int
    ) -> None:
        gateway.answers = [whole(answer(*[{"b64_json": encoded(SMALL)}] * many))]
        manifest = await attempt(harness)
        expected = min(many, 1 + SURPLUS)
        assert (manifest.delivered, manifest.billed) == (expected, expected)
        assert ("more than the 1 images asked for" in caplog.text) == (many > expected)
        # What was not landed does not count as lost: a retry hands out what is there.
        assert (await attempt(harness, try_number=2)).delivered == expected
        assert len(gateway.asked) == 1

    async def test_land_too_where_all_of_them_are_in_the_response(self, harness: Harness, gateway: ResultHost) -> None:
        gateway.answers = [whole(answer(*[{"b64_json": encoded(LARGE)}] * 200))]
        assert (await attempt(harness)).delivered == 1 + SURPLUS


class TestRateLimitHeaders:
    async def test_hold_back_the_next_request(
        self, harness: Harness, gateway: ResultHost, caplog: pytest.LogCaptureFixture
    ) -> None:
        harness.settings = dataclasses.replace(harness.settings, max_in_flight=1)
        said = "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 200ms"
        gateway.answers = [whole(answer({"b64_json": encoded(SMALL)}), said)]
        manifest = await attempt(harness, model="dall-e-3", n=2)
        assert (manifest.delivered, len(gateway.asked)) == (2, 2)
        assert "an earlier response said that no request is left" in caplog.text


class TestUnaskedCoding:
    @pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
    async def test_is_named(self, harness: Harness, gateway: ResultHost, coding: str) -> None:
        gateway.answers = [whole(b"\x8b\x00\x80", f"Content-Encoding: {coding}")]
        with pytest.raises(OutcomeUnknown, match=f"a body encoded as '{coding}', which was not asked for"):
            await attempt(harness)

    async def test_leaves_a_refusal_what_it_is(self, harness: Harness, gateway: ResultHost) -> None:
        gateway.answers = [says("402 Payment Required\r\nContent-Encoding: br", b"\x8b\x00\x80")]
        with pytest.raises(OutOfBalance, match="encoded as 'br'"):
            await attempt(harness)
