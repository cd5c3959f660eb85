"""A proxy that forwards and records all requests, and a host that responds to any request."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PIECE = 65_536


@dataclass(frozen=True)
class Seen:
    """
    One request, as it came by.

    :param method: its method
    :param target: path and query, or the whole address if it was to be passed on
    :param headers: its headers, names in lower case
    :param body: the body of what was meant for the recorder itself
    """

    method: str
    target: str
    headers: dict[str, str]
    body: str = ""


class RecordingProxy:
    """
    Passes requests on as an HTTP proxy does, answers its own with an image, and remembers all; a context manager.

    :param image: what it answers
    """

    def __init__(self, image: bytes) -> None:
        self.seen: list[Seen] = []
        recorder = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                # Who cuts a connection, or lets it be cut, is not the recorder's business.
                with contextlib.suppress(OSError):
                    recorder._attend(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._image = image
        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="recorder")

    @property
    def address(self) -> str:
        """Its host and port."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _attend(self, connection: socketserver.StreamRequestHandler) -> None:
        first, *lines = _head(connection)
        if not first:
            return
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "://" in target:
            self.seen.append(Seen(method, target, headers))
            _pass_on(connection, method, target, lines)
            return
        body = connection.rfile.read(int(headers.get("content-length", "0")))
        self.seen.append(Seen(method, target, headers, body.decode("latin-1")))
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(self._image)}\r\n\r\n"
        connection.wfile.write(head.encode() + self._image)


def _head(connection: socketserver.StreamRequestHandler) -> list[str]:
    lines = []
    while line := connection.rfile.readline().decode("latin-1").rstrip("\r\n"):
        lines.append(line)
    return lines or [""]


def _pass_on(connection: socketserver.StreamRequestHandler, method: str, target: str, lines: list[str]) -> None:
    """Forward a request to its target, and the response to the client."""
    parts = urlsplit(target)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    kept = [line for line in lines if not line.lower().startswith(("proxy-", "connection:"))]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""])
    with socket.create_connection((parts.hostname or "", parts.port or 80)) as origin:
        origin.sendall(head.encode("latin-1"))
        threading.Thread(target=_copy, args=(connection, origin), daemon=True).start()
        while piece := origin.recv(PIECE):
            connection.wfile.write(piece)


def _copy(connection: socketserver.StreamRequestHandler, origin: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while piece := connection.rfile.read1(PIECE):  # type: ignore[attr-defined]
            origin.sendall(piece)
