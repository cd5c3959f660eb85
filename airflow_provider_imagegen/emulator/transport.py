"""Answers that are no HTTP: dropped and reset connections, silence, bodies cut short or without end.

ASGI has no word for closing a connection, so the server tells each request its transport (see ``server.py``).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

TRANSPORT = "imagegen.transport"
BLOCK = bytes(64 * 1024)


def transport_of(scope: Scope) -> asyncio.Transport:
    """Return the connection of a request.

    :raises RuntimeError: when the application is not run by this package's server
    """
    # Not checked by class: the transports of uvloop are none of asyncio's.
    transport: asyncio.Transport | None = scope.get("extensions", {}).get(TRANSPORT)
    if transport is None:
        raise RuntimeError("connections can only be dropped under server_for()")
    return transport


async def _until_gone(receive: Receive) -> None:
    """Wait until the client is gone; only then may the application return without having answered."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Drop(Response):
    """Close the connection without a response.

    :param reset: with a TCP reset instead of an orderly end
    """

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close the connection."""
        transport = transport_of(scope)
        connection = transport.get_extra_info("socket")
        if self._reset and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await _until_gone(receive)


class Hang(Response):
    """Say nothing for a while, then give the response; or say nothing until the client goes.

    :param seconds: none is for ever
    :param answer: what is said at last; none closes the connection
    """

    def __init__(self, seconds: float | None, answer: Response | None) -> None:
        super().__init__()
        self._seconds = seconds
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, then answer if anybody still listens."""
        try:
            async with asyncio.timeout(self._seconds):
                await _until_gone(receive)
        except TimeoutError:
            await (self._answer or Drop())(scope, receive, send)


class Interrupted(Response):
    """Begin a response, announcing the whole of it; then close the connection, or fall silent.

    :param answer: half of it is sent, or of a stream the first event
    :param silent: say nothing more, until the client goes
    """

    def __init__(self, answer: Response, *, silent: bool) -> None:
        super().__init__()
        self._answer = answer
        self._silent = silent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the beginning."""
        answer = self._answer
        await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
        await send({"type": "http.response.body", "body": await self._beginning(), "more_body": True})
        if not self._silent:
            transport_of(scope).close()
        await _until_gone(receive)

    async def _beginning(self) -> bytes:
        if isinstance(self._answer, StreamingResponse):
            first = await anext(aiter(self._answer.body_iterator))
            return first.encode() if isinstance(first, str) else bytes(first)
        return bytes(self._answer.body[: len(self._answer.body) // 2])


class Endless(Response):
    """Send the same again and again after the body, until the client has had enough.

    :param block: what is sent
    :param pause: seconds between two of them
    """

    def __init__(self, content: bytes, *, block: bytes = BLOCK, pause: float = 0.0, media_type: str) -> None:
        super().__init__(content, media_type=media_type)
        self._block = block
        self._pause = pause

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Promise no length."""
        super().init_headers(headers)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send without end."""
        connection = transport_of(scope)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        block = bytes(self.body)
        # Sending to somebody who has gone neither fails nor waits, so the loop has to look for itself.
        while not connection.is_closing():
            await send({"type": "http.response.body", "body": block, "more_body": True})
            await asyncio.sleep(self._pause)
            block = self._block
