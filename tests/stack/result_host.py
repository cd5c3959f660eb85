"""A host that results are fetched from, in this event loop, and a small internet around it.

Public addresses are mapped to loopback: nothing here ever connects anywhere else.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpcore

from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing.download.download import Downloader

PUBLIC = "93.184.216.34"
PUBLIC_V6 = "2606:2800::1"
NAME = "results.example"
ADDRESS = f"http://{NAME}/image.png?signature=s3cret"


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    method: str
    target: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, head: str, body: bytes = b"") -> None:
        self.writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode(errors="surrogateescape") + body)
        await self.writer.drain()


Answer = Callable[[Asked], Awaitable[None]]


class ResultHost:
    """Gives one response after the other; the last one again and again."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []
        self._tls = tls
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._serving)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            fields = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in fields}
            self.asked.append(Asked(method, target, headers, reader, writer))
            await self.answers[min(len(self.asked), len(self.answers)) - 1](self.asked[-1])
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def says(head: str, body: bytes = b"") -> Answer:
    """Answer with a status line, headers and bytes, as they are."""

    async def answer(asked: Asked) -> None:
        await asked.send(head, body)

    return answer


def whole(body: bytes, *headers: str) -> Answer:
    """Answer with all of it."""
    return says("\r\n".join(["200 OK", f"Content-Length: {len(body)}", *headers]), body)


def cut(body: bytes, after: int, *headers: str) -> Answer:
    """Announce all of it, send its beginning and close."""
    return says("\r\n".join(["200 OK", f"Content-Length: {len(body)}", *headers]), body[:after])


def stalled(body: bytes, after: int, *headers: str) -> Answer:
    """Announce all of it, send its beginning and fall silent until the client goes."""

    async def answer(asked: Asked) -> None:
        await cut(body, after, *headers)(asked)
        await asked.reader.read()

    return answer


def redirect(location: str, status: int = 302) -> Answer:
    return says(f"{status} Found\r\nContent-Length: 0\r\nSet-Cookie: session=1\r\nLocation: {location}")


class Names:
    """A resolver of the test's own.

    :param known: What each name leads to, lookup by lookup; the last response again and again.
    """

    def __init__(self, **known: Sequence[Sequence[str]]) -> None:
        self.known: dict[str, list[Sequence[str]]] = {name: list(answers) for name, answers in known.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.known.get(host)
        if not answers:
            raise OSError(f"{host} is unknown")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Dialer(httpcore.AsyncNetworkBackend):
    """Connects to this machine only: to the port that stands for an address, or to the given loopback port.

    :param ports: The local port that stands for each address.
    """

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.dialled: list[str] = []
        self._real = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append(host)
        if host in self.ports:
            return await self._real.connect_tcp("127.0.0.1", self.ports[host], timeout)
        if host == "127.0.0.1":
            return await self._real.connect_tcp(host, port, timeout)
        raise httpcore.ConnectError(f"nobody answers at {host}")


@dataclass
class Internet:
    """Everything a download sees of the world.

    :param dialer: Which addresses there are.
    :param names: Where names lead.
    """

    dialer: Dialer
    names: Names = field(default_factory=Names)

    @classmethod
    def with_host(cls, host: ResultHost) -> Self:
        """An internet where :data:`NAME` leads to a host."""
        internet = cls(Dialer({PUBLIC: host.port, PUBLIC_V6: host.port}))
        internet.names.known[NAME] = [[PUBLIC]]
        return internet

    async def fetch(self, url: str = ADDRESS, **settings: Any) -> bytes:
        """Fetch one result, as a connection to a public gateway does."""
        fields = {"base_url": "https://gateway.example/v1", "token": "t0ken", "headers": {"x-team": "a"}} | settings
        with tempfile.TemporaryFile() as file:
            async with Downloader(GatewaySettings(**fields), resolver=self.names, dial=self.dialer) as downloader:
                await downloader.fetch(url, file)
            file.seek(0)
            return file.read()
