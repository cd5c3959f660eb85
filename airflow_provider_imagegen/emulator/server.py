"""Runs the emulator under uvicorn: in the foreground, or on a thread beside a test."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from airflow_provider_imagegen.emulator.app import create_app
from airflow_provider_imagegen.emulator.books import Clock
from airflow_provider_imagegen.emulator.settings import EmulatorSettings
from airflow_provider_imagegen.emulator.studio import Studio
from airflow_provider_imagegen.emulator.transport import TRANSPORT

SECONDS_TO_ANSWER = 300.0
"""For the emulator's own routes: longer than a busy machine needs, so that only a hang is taken for one."""
BACKLOG = 2048


class _TransportProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """HTTP as uvicorn speaks it, except that each request learns its transport, so that it can be cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wrap the application for this connection."""
        super().connection_made(transport)
        application: ASGIApp = self.app  # type: ignore[has-type]

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[TRANSPORT] = transport
            await application(scope, receive, send)

        self.app = with_transport


def server_for(app: FastAPI) -> uvicorn.Server:
    """Return a quiet uvicorn server for an emulator; it is handed its socket when it is run."""
    config = uvicorn.Config(
        app,
        http=_TransportProtocol,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 takes a free one.

    :raises OSError: when the address is taken
    """
    # The protocol is named because asyncio sets TCP_NODELAY only where it is; without, each answer waits 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class RunningEmulator:
    """An emulator on a thread of this process, on a free port unless one is given.

    :param settings: as on the command line; the port defaults to a free one here
    :param clock: unix seconds; what every task's state is derived from
    """

    def __init__(self, settings: EmulatorSettings | None = None, *, port: int = 0, clock: Clock = time.time) -> None:
        self.settings = settings or EmulatorSettings()
        self._port = port
        self._clock = clock

    def __enter__(self) -> Self:
        self._listener = listen(self.settings.host, self._port)
        self.port: int = self._listener.getsockname()[1]
        app = create_app(self.settings, self._clock)
        self.studio: Studio = app.state.studio
        self._server = server_for(app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="emulator", daemon=True
        )
        self._thread.start()
        self._control = self._new_control()
        self._await_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.close()
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def _new_control(self) -> httpx.Client:
        return httpx.Client(base_url=self.base_url, timeout=SECONDS_TO_ANSWER, trust_env=False)

    def _await_start(self) -> None:
        # The socket listens already, so the first request waits for the server instead of failing.
        self._control.get("/_emulator/health").raise_for_status()

    @property
    def base_url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"http://{self.settings.host}:{self.port}"

    @property
    def token(self) -> str:
        """The token given at start."""
        return self.settings.token

    def url(self, path: str = "") -> str:
        """Return the address of a path, such as ``/openai/tasks`` or ``/openai-api``."""
        return f"{self.base_url}/{path.lstrip('/')}" if path else self.base_url

    def wait_until_idle(self, timeout: float = 600.0) -> None:
        """Wait until every request that was sent so far is answered, and every connection is closed.

        For requests of processes that were killed: afterwards none of them can turn up any more. Idle connections of
        the living count, so their clients must be closed.

        :param timeout: seconds until giving up
        :raises TimeoutError: when the time is over
        """
        self._control.close()
        self._control = self._new_control()
        # Connections are accepted in order: when a new one is served, none waits in the backlog.
        httpx.get(f"{self.base_url}/_emulator/health", timeout=timeout, trust_env=False).raise_for_status()
        state, deadline = self._server.server_state, time.monotonic() + timeout
        while state.connections or state.tasks:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(state.connections)} connections are still open after {timeout:g} s")
            time.sleep(0.005)

    def ledger(self) -> dict[str, Any]:
        """Return the bill: ``totals`` and ``rows``."""
        return self._ask("GET", "/_emulator/ledger")

    def totals(self) -> dict[str, int]:
        """Return the sums of the bill."""
        totals: dict[str, int] = self._ask("GET", "/_emulator/ledger?rows=false")["totals"]
        return totals

    def change(self, **settings: Any) -> None:
        """Change settings while it runs, as ``POST /_emulator/settings`` does, such as ``latency="1-8"``."""
        self._ask("POST", "/_emulator/settings", settings)

    def arm(self, route: str, kind: str, **details: Any) -> int:
        """Make something go wrong, as ``POST /_emulator/faults`` does; return the fault's id."""
        return int(self._ask("POST", "/_emulator/faults", {"route": route, "kind": kind, **details})["id"])

    def hold(self, route: str = "submit", **details: Any) -> None:
        """Leave every task that is accepted from now on unfinished until :meth:`release`."""
        self.arm(route, "hold", **{"times": None, **details})

    def release(self, prompt: str = "") -> int:
        """Finish the held tasks, and hold no more; return how many there were.

        :param prompt: only those whose prompt contains this
        """
        return int(self._ask("POST", f"/_emulator/release?prompt={quote(prompt)}")["released"])

    def disarm(self, fault_id: int | None = None) -> None:
        """Make nothing go wrong any more; or one thing less, by the id that :meth:`arm` returned."""
        self._ask("DELETE", "/_emulator/faults" if fault_id is None else f"/_emulator/faults?id={fault_id}")

    def reset(self) -> None:
        """Forget all tasks, counts, faults and changes."""
        self._ask("POST", "/_emulator/reset")

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = self._control.request(method, path, json=body)
        answer.raise_for_status()
        payload: dict[str, Any] = answer.json()
        return payload
