"""Read an image API's response: unpacked, within limits of size, split into a document and images as it arrives.

The client opens one reader for every response; the only place where a gateway's bytes come in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx
from httpx_sse import EventSource, ServerSentEvent

from airflow_provider_imagegen.gateways.response_body import (
    INLINE_BYTES,
    MAX_IMAGES,
    Base64Extractor,
    ResponseContent,
    ResponseTooLarge,
    encoding_of,
)
from airflow_provider_imagegen.gateways.unpack import PIECE, DamagedBody, UnknownCoding, Unpacker
from airflow_provider_imagegen.storage.tempfiles import MAX_IMAGE_BYTES

# As base64 with line breaks; counted packed and unpacked, because a body may unpack to gigabytes, or to nothing at all.
MAX_RESPONSE_BYTES = MAX_IMAGES * MAX_IMAGE_BYTES * 3 // 2
# A stream that says every 100 ms that it is alive has fewer, and each of them costs time.
MAX_EVENTS = 10_000
# A thread is asked for every batch, not for every piece of the network: the hand-over costs more than the scan.
BATCH = 512 * 1024


async def read_response(response: httpx.Response, directory: Path) -> ResponseContent:
    """Read a response to its end and close it; its images are decoded into files, off the event loop."""
    async with reading(response, directory) as reader:
        await reader.read()
    return reader.content


@asynccontextmanager
async def reading(response: httpx.Response, directory: Path) -> AsyncIterator[ResponseReader]:
    """Open a reader of a response; parameters and errors as of :func:`read_response`."""
    reader = ResponseReader(response, directory)
    try:
        yield reader
    finally:
        await response.aclose()
        reader.close()
        # httpx ties response and stream into a circle, which would keep the request's body (source images of
        # an edit) until the garbage collector comes by.
        response.stream = httpx.ByteStream(b"")


class ResponseReader:
    """Reads one response: whole (:meth:`read`), or event by event (:meth:`events`). See :func:`reading`."""

    def __init__(self, response: httpx.Response, directory: Path) -> None:
        self._response = response
        self._directory = directory
        self._extractor = Base64Extractor(directory)

    @property
    def content(self) -> ResponseContent:
        """What was read, once the reader is closed."""
        response, extractor = self._response, self._extractor
        stripped = {b"content-length", b"content-encoding", b"transfer-encoding"}
        # As they came: their values may be in any charset.
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in stripped]
        body = httpx.Response(
            response.status_code, headers=headers, content=extractor.skeleton, request=response.request
        )
        body.encoding = encoding_of(response)
        return ResponseContent(body, extractor.files, extractor.damaged, self._directory)

    def close(self) -> None:
        """End the document."""
        self._extractor.close()

    async def read(self) -> None:
        """Read the body to its end."""
        has_begun = False
        async for batch in self._batches():
            # A lookup of a hundred tasks has no string long enough to be decoded, and one comes every few seconds.
            if has_begun or len(batch) >= BATCH or max(map(len, batch.split(b'"'))) > INLINE_BYTES:
                await self._feed(batch)
            else:
                self._extractor.copy(batch)
            has_begun = True

    async def events(self) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield server-sent events, each once it is there; a body of something else has none, and is read as well."""
        async with aclosing(self._growing_document()) as document:
            # Whatever the response calls itself: gateways label streams as JSON too.
            head = {"content-type": "text/event-stream; charset=utf-8-sig"}
            count = 0
            async for event in EventSource(httpx.Response(200, headers=head, content=document)).aiter_sse():
                count += 1
                if count > MAX_EVENTS:
                    raise ResponseTooLarge(f"the stream holds more than {MAX_EVENTS} events")
                yield event

    async def _growing_document(self) -> AsyncGenerator[bytes, None]:
        shown = 0
        async for batch in self._batches(by_line=True):
            await self._feed(batch)
            grown = self._extractor.skeleton_from(shown)
            shown += len(grown)
            yield grown
        # Gateways leave out the blank line that ends the last event.
        yield b"\n\n"

    async def _batches(self, by_line: bool = False) -> AsyncIterator[bytes]:
        """Yield the body in pieces that are worth the hand-over to a thread; by line, as soon as a line ends."""
        gathered = bytearray()
        async for piece in self._unpacked():
            gathered += piece
            if len(gathered) >= BATCH or (by_line and (b"\n" in piece or b"\r" in piece)):
                yield bytes(gathered)
                gathered.clear()
        yield bytes(gathered)

    async def _unpacked(self) -> AsyncIterator[bytes]:
        try:
            unpacker = Unpacker(self._response.headers.get("content-encoding", ""))
        except UnknownCoding as error:
            # In place of the body, for the status to be judged by: a refusal stays a refusal, whatever it is packed in.
            yield f"({error})".encode()
            return
        received = unpacked = 0
        try:
            async for packed in self._response.aiter_raw():
                received += len(packed)
                for piece in unpacker.unpack(packed):
                    unpacked += len(piece)
                    if max(received, unpacked) > MAX_RESPONSE_BYTES:
                        raise ResponseTooLarge(f"the response holds more than {MAX_RESPONSE_BYTES} bytes")
                    yield piece
        except DamagedBody as error:
            raise httpx.DecodingError(str(error), request=self._response.request) from None
        yield unpacker.finish()

    async def _feed(self, batch: bytes) -> None:
        if len(batch) < PIECE:
            self._extractor.feed(batch)
        else:
            await _feed_in_thread(self._extractor, batch)


async def _feed_in_thread(extractor: Base64Extractor, data: bytes) -> None:
    scan = asyncio.ensure_future(asyncio.to_thread(extractor.feed, data))
    try:
        await asyncio.shield(scan)
    except asyncio.CancelledError:
        # A thread cannot be cancelled; let it finish before its file is closed under it.
        await asyncio.gather(scan, return_exceptions=True)
        raise
