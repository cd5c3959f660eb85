"""A proxy before an S3 server that spoils chosen requests on the wire: refuses, cuts or stalls them.

It can also spell the names of user metadata in responses as proxies written in Go do: ``X-Amz-Meta-Sha256``.
"""

import asyncio
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from tests.stack.waiting import wait_until

Kind = Literal["refuse", "reset", "stall"]

_METADATA_NAME = re.compile(rb"\r\nx-amz-meta-[^:\r\n]+(?=:)", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """
    The head of a request that came by.

    :param method: its method
    :param path: its path and query, as sent
    :param headers: its headers, names in lower case
    """

    method: str
    path: str
    headers: dict[str, str]

    @classmethod
    def read(cls, head: bytes) -> Self:
        """Read the head of a request."""
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ", 2)
        fields = (line.partition(":") for line in lines)
        return cls(method, path, {name.lower(): value.strip() for name, _, value in fields})

    @property
    def length(self) -> int:
        """Bytes of its body."""
        return int(self.headers.get("content-length", "0"))


@dataclass
class Fault:
    """
    What happens to some requests.

    :param kind: ``refuse`` (answer in the server's place), ``reset`` or ``stall`` (in mid-body)
    :param method: method of the requests it is for
    :param path: pattern that is searched in their path and query
    :param header: a header they carry
    :param without: a header they lack
    :param times: how many of them; ``None`` for all
    :param status: HTTP status of a refusal
    :param code: S3's error code of a refusal
    :param words: S3's message of a refusal
    :param after: bytes of the body that still pass before a reset or stall
    """

    kind: Kind
    method: str = "PUT"
    path: str = ""
    header: str | None = None
    without: str | None = None
    times: int | None = 1
    status: int = 503
    code: str = "SlowDown"
    words: str = "Refused"
    after: int = 0
    met: list[Request] = field(default_factory=list)

    def is_for(self, request: Request) -> bool:
        """Return whether the fault applies to a request."""
        return (
            (self.times is None or len(self.met) < self.times)
            and request.method == self.method
            and re.search(self.path, request.path) is not None
            and (self.header is None or self.header in request.headers)
            and self.without not in request.headers
        )


class FaultProxy:
    """
    A proxy on a loopback port of its own, on a thread of its own; a context manager.

    :param port: port of the S3 server on this machine
    """

    def __init__(self, port: int) -> None:
        self.requests: list[Request] = []
        self.capitalized = 0
        """Names of user metadata whose case was changed."""
        self._capitalizes = False
        self._target = port
        self._faults: list[Fault] = []
        self._connections: dict[asyncio.Task[None], object] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault-proxy")

    @property
    def port(self) -> int:
        """Its port."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def endpoint(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def arm(self, fault: Fault) -> Fault:
        """Spoil requests from now on."""
        self._faults.append(fault)
        return fault

    def capitalize_metadata(self) -> None:
        """Spell the names of user metadata as Go does from now on."""
        self._capitalizes = True

    def disarm(self) -> None:
        """Let everything pass again."""
        self._faults.clear()

    def wait_until_idle(self) -> None:
        """
        Wait until it has passed on what dead processes had sent, and the server is done with that.

        Idle connections of the living count, so their clients must be closed.
        """
        # Connections are accepted in order: when a new one is, none waits in the backlog.
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            address = last.getsockname()
            wait_until(lambda: address in list(self._connections.values()), what="a connection to the proxy")
        wait_until(lambda: not self._connections, what="the proxy to be done with what dead processes had sent")

    def __enter__(self) -> Self:
        self._ready = threading.Event()
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, sock=self._listener)
        self._ready.set()
        await self._over.wait()
        server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._relay(reader, writer))
        self._connections[connection] = writer.get_extra_info("peername")

        def end(_: object) -> None:
            writer.transport.abort()
            del self._connections[connection]

        connection.add_done_callback(end)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        answers = asyncio.ensure_future(self._pass_back(from_server, writer))
        try:
            while await self._pass_on(reader, writer, to_server):
                pass
        except asyncio.IncompleteReadError:
            # The client is gone. What it has sent is the server's to finish, and until then this is not idle.
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            to_server.write_eof()
            while await from_server.read(65536):
                pass
        except ConnectionError:
            pass
        finally:
            to_server.transport.abort()
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            # The head of a response is written at once, and begins a piece: no request is sent before the last is over.
            if self._capitalizes and piece.startswith(b"HTTP/"):
                head, end, body = piece.partition(b"\r\n\r\n")
                head, count = _METADATA_NAME.subn(lambda name: name[0].title(), head)
                self.capitalized += count
                piece = head + end + body
            writer.write(piece)
            await writer.drain()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> bool:
        """Pass one request on, or spoil it; then no other can follow on this connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        request = Request.read(head)
        self.requests.append(request)
        fault = next((fault for fault in self._faults if fault.is_for(request)), None)
        if fault is None:
            to_server.write(head)
            await _pump(reader, to_server, request.length)
            return True
        fault.met.append(request)
        if fault.kind == "refuse":
            await _refuse(fault, request, reader, writer)
            return False
        to_server.write(head)
        await _pump(reader, to_server, min(fault.after, request.length))
        if fault.kind == "stall":
            await reader.read()
        # With nothing to linger for, closing sends a reset.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


async def _refuse(fault: Fault, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer in the server's place; who asked before sending the body does not send it then."""
    if "expect" not in request.headers:
        await reader.readexactly(request.length)
    body = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>{fault.words}</Message></Error>"
    head = f"HTTP/1.1 {fault.status} Spoilt\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n{body}".encode())
    await writer.drain()
    writer.write_eof()
    await reader.read()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int | None = None) -> None:
    """Pass bytes on: so many, or until the end."""
    while count is None or count > 0:
        piece = await reader.read(65536 if count is None else min(65536, count))
        if not piece:
            return
        writer.write(piece)
        await writer.drain()
        count = None if count is None else count - len(piece)
