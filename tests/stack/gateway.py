"""The image API a stack talks to: the emulator as a process of its own, or a real one named in the environment."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from tests.stack.environment import ROOT, child_environment
from tests.stack.ports import free_port
from tests.stack.process import Process
from tests.stack.waiting import HANG

DEFAULT_GATEWAY = "acedatacloud"
_PROGRAM = ("-m", "airflow_provider_imagegen.emulator")
_COARSE = """
from airflow_provider_imagegen.emulator import __main__, painter
painter.LONGEST_WORKING_EDGE = 64
raise SystemExit(__main__.main())
"""


@dataclass(frozen=True)
class Gateway:
    """
    How to reach an image API.

    :param host: base URL
    :param token: API token
    :param name: which protocol it speaks, as the connection's extra field says it
    """

    host: str
    token: str
    name: str = DEFAULT_GATEWAY

    @classmethod
    def from_environment(cls) -> Self | None:
        """
        Read ``IMAGEGEN_HOST``, ``IMAGEGEN_API_KEY`` and ``IMAGEGEN_GATEWAY``.

        :return: the real API they name, None if they name none
        :raises ValueError: if there is a host without a key, or the other way round
        """
        host = os.environ.get("IMAGEGEN_HOST", "")
        token = os.environ.get("IMAGEGEN_API_KEY", "")
        if not host and not token:
            return None
        if not host or not token:
            raise ValueError("A real API needs both IMAGEGEN_HOST and IMAGEGEN_API_KEY; for the emulator set neither.")
        return cls(host, token, os.environ.get("IMAGEGEN_GATEWAY") or DEFAULT_GATEWAY)


class Emulator:
    """
    The provider's emulator as a server.

    :param log: file that gets its output
    :param latency: seconds one image takes, or a range such as ``1-8``
    :param token: the API token it accepts
    :param options: more command-line options
    :param coarse: whether its images are drawn coarsely, which takes a fifth of the time
    """

    def __init__(
        self,
        log: Path,
        *,
        latency: float | str,
        token: str = "emulator-token",
        options: Sequence[str] = (),
        coarse: bool = False,
    ) -> None:
        port = free_port()
        self.gateway = Gateway(f"http://127.0.0.1:{port}", token)
        self._http = httpx.Client(base_url=self.gateway.host, timeout=HANG, trust_env=False)
        self.process = Process(
            "emulator",
            [
                sys.executable,
                *(("-c", _COARSE) if coarse else _PROGRAM),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--latency", str(latency), "--token", token),
                *options,
            ],
            env=child_environment(),
            log=log,
            cwd=ROOT,
        )

    def start(self) -> None:
        """Start it; returns at once."""
        self.process.start()

    def wait_ready(self, timeout: float = HANG) -> None:
        """
        Wait until it answers.

        :param timeout: seconds until giving up
        """

        def is_healthy() -> bool:
            try:
                return self._http.get("/_emulator/health").status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        self.process.wait_ready(is_healthy, timeout=timeout)

    def ledger(self) -> Mapping[str, Any]:
        """
        Ask what it has billed.

        :return: its ledger, as its own documentation has it
        """
        ledger: Mapping[str, Any] = self.control("GET", "ledger")
        return ledger

    def control(self, method: str, path: str, body: object = None, **params: str) -> Any:
        """
        Call one of its own routes.

        :param method: HTTP method
        :param path: path below ``/_emulator``
        :param body: body, as JSON
        :param params: query parameters
        :return: the parsed response
        """
        return self._http.request(method, f"/_emulator/{path}", json=body, params=params).raise_for_status().json()

    def close(self) -> None:
        """Close the connections to it."""
        self._http.close()
