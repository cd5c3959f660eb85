"""aimock, a mock server of OpenAI's API from npm, with the responses that the tests prescribe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.peers.installing import NODE, npm_package
from tests.stack.environment import child_environment
from tests.stack.ports import free_port
from tests.stack.process import Process
from tests.stack.waiting import HANG


class Aimock:
    """
    One server; what nothing is prescribed for gets a 404 with code ``no_fixture_match``.

    :param directory: where it keeps its fixtures and its log
    :param fixtures: pairs of ``match`` and ``response``, as its documentation has them
    :param token: the API key it accepts
    """

    def __init__(self, directory: Path, fixtures: Sequence[dict[str, Any]], token: str) -> None:
        program = npm_package("aimock", "@copilotkit/aimock@1") / "@copilotkit" / "aimock" / "dist" / "cli.js"
        prescribed = directory / "fixtures.json"
        prescribed.write_text(json.dumps({"fixtures": list(fixtures)}))
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        self.token = token
        self._http = httpx.Client(
            base_url=self.base_url, headers={"authorization": f"Bearer {token}"}, timeout=HANG, trust_env=False
        )
        self.process = Process(
            "aimock",
            [
                *(str(NODE), str(program), "--host", "127.0.0.1", "--port", str(port)),
                *("--fixtures", str(prescribed), "--validate-on-load"),
            ],
            env=child_environment() | {"AIMOCK_API_KEYS": token},
            log=directory / "aimock.log",
            cwd=directory,
        )

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.process.start()
        self.process.wait_ready(self._is_healthy)

    def stop(self) -> None:
        """End it."""
        self.process.stop()
        self._http.close()

    def journal(self, visitor: str) -> list[dict[str, Any]]:
        """Return every request that came with the header ``X-Test-Id`` set to ``visitor``."""
        response = self._http.get("/__aimock/journal", params={"testId": visitor})
        response.raise_for_status()
        entries: list[dict[str, Any]] = response.json()
        return entries

    def _is_healthy(self) -> bool:
        try:
            return self._http.get("/health").is_success
        except httpx.TransportError:
            return False
