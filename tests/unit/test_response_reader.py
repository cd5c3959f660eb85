"""Responses are read off the event loop, within limits of size, and whole or not at all."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import threading
import weakref
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_imagegen.gateways import response_reader
from airflow_provider_imagegen.gateways.response_body import (
    MAX_IMAGES,
    MAX_SKELETON_BYTES,
    Base64Extractor,
    ResponseContent,
    ResponseTooLarge,
)
from airflow_provider_imagegen.gateways.response_reader import MAX_EVENTS, _feed_in_thread, read_response, reading
from airflow_provider_imagegen.gateways.unpack import PIECE, Unpacker
from tests.stack.waiting import wait_until
from tests.unit.test_response_body import answer_with, encoded, image


@asynccontextmanager
async def served(
    body: bytes, head: str = "", status: str = "200 OK", content_length: int | None = -1, hold: bool = False
) -> AsyncIterator[httpx.Response]:
    """A response, not read yet, from a server that answers with these bytes and hangs up, unless it is to hold."""
    length = len(body) if content_length == -1 else content_length
    lines = f"HTTP/1.1 {status}\r\n{head}" + (f"Content-Length: {length}\r\n" if length is not None else "")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(lines.encode() + b"Connection: close\r\n\r\n" + body)
        try:
            await writer.drain()
            if hold:
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, httpx.AsyncClient(trust_env=False) as client:
        yield await client.send(client.build_request("GET", f"http://{host}:{port}/"), stream=True)


async def read(body: bytes, directory: Path, **server: Any) -> ResponseContent:
    async with served(body, **server) as response:
        return await read_response(response, directory)


async def read_as_events(body: bytes, directory: Path, **server: Any) -> list[str]:
    async with served(body, **server) as response, reading(response, directory) as reader:
        return [event.data async for event in reader.events()]


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "several members": ("gzip", lambda content: gzip.compress(content[:99]) + gzip.compress(content[99:])),
    "zeros behind its end": ("gzip", lambda content: gzip.compress(content) + bytes(8)),
    "deflate with header": ("deflate", zlib.compress),
    "deflate without header": ("deflate", raw_deflate),
    "gzip that is called deflate": ("deflate", gzip.compress),
}
"""Name of a spelling → the ``Content-Encoding`` it goes by, and how it is made."""


class TestHeaders:
    async def test_in_any_charset_lose_no_response(self, tmp_path: Path) -> None:
        content = await read(b'{"a": 1}', tmp_path, head="X-Request-Id: ä\r\nContent-Type: text/plain; charset=ß\r\n")
        assert content.response.json() == {"a": 1}
        assert content.response.headers["x-request-id"] == "ä"


class TestHostileBodies:
    """However a body grows, it is refused before it takes the memory or the disk of a worker."""

    async def test_a_line_of_a_stream_that_never_ends(self, tmp_path: Path) -> None:
        with pytest.raises(ResponseTooLarge, match="beside its images"):
            await read_as_events(b"data: " + b"x" * (MAX_SKELETON_BYTES + 1), tmp_path)

    async def test_events_that_never_end(self, tmp_path: Path) -> None:
        with pytest.raises(ResponseTooLarge, match=f"more than {MAX_EVENTS} events"):
            await read_as_events(b"data: {}\n\n" * (MAX_EVENTS + 1), tmp_path)

    async def test_events_with_ever_more_images(self, tmp_path: Path) -> None:
        preview = f'data: {{"b64_json": "{encoded(4000)}"}}\n\n'.encode()
        await read_as_events(preview * (MAX_IMAGES + 1), tmp_path)
        assert len(os.listdir(tmp_path)) == MAX_IMAGES

    async def test_a_body_that_unpacks_to_gigabytes(self, tmp_path: Path) -> None:
        bomb = gzip.compress(b"[" + bytes(3 * MAX_SKELETON_BYTES))
        with pytest.raises(ResponseTooLarge, match="beside its images"):
            await read(bomb, tmp_path, head="Content-Encoding: gzip\r\n")

    def test_a_body_is_unpacked_a_piece_at_a_time(self) -> None:
        sizes = [len(piece) for piece in Unpacker("gzip").unpack(gzip.compress(bytes(10_000_000)))]
        assert max(sizes) == PIECE
        assert sum(sizes) == 10_000_000

    @pytest.mark.parametrize("step", [1, 2, 1000])
    @pytest.mark.parametrize("name", PACKED)
    def test_a_body_is_unpacked_however_servers_pack_it(self, name: str, step: int) -> None:
        content = bytes(range(256)) * 40
        coding, pack = PACKED[name]
        packed, unpacker = pack(content), Unpacker(coding)
        pieces = [packed[at : at + step] for at in range(0, len(packed), step)]
        assert b"".join(part for piece in pieces for part in unpacker.unpack(piece)) + unpacker.finish() == content
        assert unpacker.is_whole

    @pytest.mark.parametrize("coding", ["gzip", "identity"])
    async def test_a_body_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coding: str) -> None:
        monkeypatch.setattr(response_reader, "MAX_RESPONSE_BYTES", 100_000)
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        # Blocks of gzip that hold nothing, or an image that is longer than all that is read.
        nothing = packer.compress(b"[") + packer.flush(zlib.Z_SYNC_FLUSH) + b"\0\0\0\xff\xff" * 30_000
        body = nothing if coding == "gzip" else answer_with(encoded(200_000))
        with pytest.raises(ResponseTooLarge, match="more than 100000 bytes"):
            await read(body, tmp_path, head=f"Content-Encoding: {coding}\r\n")
        assert not os.listdir(tmp_path)

    async def test_a_packed_body_that_is_damaged(self, tmp_path: Path) -> None:
        with pytest.raises(httpx.DecodingError, match="cannot be unpacked"):
            await read(b"no gzip at all", tmp_path, head="Content-Encoding: gzip\r\n")


class TestReadResponse:
    async def test_gives_a_response_that_reads_as_usual_and_the_images(self, tmp_path: Path) -> None:
        head = "Content-Type: application/json\r\nX-Request-Id: r1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        answer = await read(answer_with(encoded(3_000_000)), tmp_path, head=head, status="201 Created")
        [(marker, path)] = answer.files.items()
        assert path.read_bytes() == image(3_000_000)
        assert path.parent == tmp_path
        assert answer.response.status_code == 201
        assert answer.response.json()["data"] == [{"b64_json": marker}]
        assert answer.response.headers["x-request-id"] == "r1"
        assert answer.response.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert int(answer.response.headers["content-length"]) == len(answer.response.content) < 300
        assert answer.response.request.method == "GET"

    async def test_compressed_responses_are_read(self, tmp_path: Path) -> None:
        body = gzip.compress(answer_with(encoded()))
        answer = await read(body, tmp_path, head="Content-Encoding: gzip\r\n")
        assert [path.read_bytes() for path in answer.files.values()] == [image()]
        assert "content-encoding" not in answer.response.headers

    async def test_pages_of_a_proxy_come_through(self, tmp_path: Path) -> None:
        page = "<html>Bad gateway, schöne Grüße</html>".encode("latin-1")
        head = "Content-Type: text/html; charset=latin-1\r\n"
        answer = await read(page, tmp_path, head=head, status="502 Bad Gateway")
        assert answer.response.text == "<html>Bad gateway, schöne Grüße</html>"

    async def test_an_empty_response_is_an_empty_document(self, tmp_path: Path) -> None:
        assert (await read(b"", tmp_path)).response.content == b""

    async def test_a_body_shorter_than_announced_is_an_error(self, tmp_path: Path) -> None:
        body = answer_with(encoded())
        with pytest.raises(httpx.RemoteProtocolError):
            await read(body[:9000], tmp_path, content_length=len(body))
        assert not os.listdir(tmp_path)

    async def test_a_body_cut_off_unannounced_is_not_json(self, tmp_path: Path) -> None:
        answer = await read(answer_with(encoded())[:9000], tmp_path, content_length=None)
        with pytest.raises(ValueError, match=r".+"):
            answer.response.json()
        assert not answer.files
        assert not os.listdir(tmp_path)

    async def test_a_body_that_is_too_large_closes_the_response(self, tmp_path: Path) -> None:
        async with served(b"[" + b"1," * 5_000_000) as response:
            with pytest.raises(ResponseTooLarge):
                await read_response(response, tmp_path)
            assert response.is_closed

    async def test_a_directory_that_cannot_be_written_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            await read(answer_with(encoded()), tmp_path / "absent")

    async def test_nothing_waits_for_the_garbage_collector(self, tmp_path: Path) -> None:
        gc.collect()
        gc.disable()
        try:
            async with served(answer_with(encoded())) as response:
                answer = await read_response(response, tmp_path)
                gone = weakref.ref(response)
                del response
            small = weakref.ref(answer.response)
            del answer
            assert gone() is None
            assert small() is None
        finally:
            gc.enable()

    async def test_the_loop_continues_meanwhile(self, tmp_path: Path) -> None:
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with served(answer_with(encoded(15_000_000))) as response:
            ticking = asyncio.create_task(tick())
            await read_response(response, tmp_path)
            ticking.cancel()
        assert turns > 20

    async def test_cancelling_leaves_no_file_behind(self, tmp_path: Path) -> None:
        body = answer_with(encoded(3_000_000))
        async with served(body[:2_000_000], content_length=len(body), hold=True) as response:
            reading = asyncio.create_task(read_response(response, tmp_path))
            await asyncio.to_thread(wait_until, lambda: os.listdir(tmp_path), what="the first file")
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert response.is_closed
        assert not os.listdir(tmp_path)

    async def test_cancelling_waits_for_the_thread_that_is_writing(self, tmp_path: Path) -> None:
        begun, let_go = threading.Event(), threading.Event()

        class Held(Base64Extractor):
            def feed(self, data: bytes) -> None:
                begun.set()
                let_go.wait()
                super().feed(data)

        extractor = Held(tmp_path)
        feeding = asyncio.create_task(_feed_in_thread(extractor, b"[]"))
        await asyncio.to_thread(begun.wait)
        feeding.cancel()
        # Iterations of the event loop without delay, more than a clean shutdown needs.
        for _ in range(10):
            await asyncio.sleep(0)
        returned_early = feeding.done()
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await feeding
        assert not returned_early
        assert extractor.skeleton == b"[]"
