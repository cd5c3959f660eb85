"""The previous major release of OpenAI's client works with the emulator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from tests.peers import openai_session
from tests.peers.installing import python_package
from tests.stack.environment import child_environment
from tests.stack.waiting import HANG

Session = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def client() -> Path:
    return python_package("openai-2", "openai>=2,<3")


@pytest.fixture
def session(client: Path, emulator: RunningEmulator) -> Session:
    """Run one act of the session against the emulator's OpenAI."""
    emulator.change(image_bytes=1000)
    address = {"OPENAI_BASE_URL": emulator.url("/openai-api/v1"), "OPENAI_API_KEY": emulator.token}

    def run(act: str) -> dict[str, Any]:
        # Without site, so that it cannot see this environment's own openai.
        finished = subprocess.run(
            [sys.executable, "-S", openai_session.__file__, act],
            env=child_environment() | address | {"PYTHONPATH": str(client)},
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        output: dict[str, Any] = json.loads(finished.stdout)
        return output

    return run


class TestOpenAI2:
    def test_it_generates(self, session: Session, emulator: RunningEmulator) -> None:
        output = session("generate")
        assert output["version"].startswith("2.")
        assert output["images"] == ["png"]
        assert output["tokens"] > 0
        assert emulator.totals()["billed_images"] == 1

    def test_it_streams(self, session: Session) -> None:
        output = session("stream")
        assert output["events"] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
        assert output["images"] == ["png"] * 3

    @pytest.mark.full
    def test_it_edits(self, session: Session, emulator: RunningEmulator) -> None:
        assert session("edit")["images"] == ["png"]
        assert emulator.totals()["edits"] == 1

    @pytest.mark.full
    def test_it_streams_an_edit(self, session: Session) -> None:
        assert session("stream_edit")["events"] == ["image_edit.partial_image", "image_edit.completed"]

    def test_it_reads_the_refusals(self, session: Session, emulator: RunningEmulator) -> None:
        output = session("refusal")
        assert output["code"] == "moderation_blocked"
        assert output["type"] == "image_generation_user_error"
        assert output["request_id"].startswith("req_")
        assert emulator.totals()["billed_images"] == 0
