"""A LiteLLM proxy in front of the emulator, as many companies use it in front of their gateways."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx

from airflow_provider_imagegen.emulator.server import RunningEmulator
from tests.peers.installing import python_package
from tests.stack.environment import child_environment
from tests.stack.ports import free_port
from tests.stack.process import Process
from tests.stack.waiting import HANG

# What is asserted of it was seen in this release.
RELEASE = "litellm[proxy]==1.106.*"

OPENAI = "gpt-image-1"
ACE = "gpt-image-1-at-ace"
"""Model names by which it chooses what is behind it."""

_SUBMIT_LINES = ('"POST /v1/images/generations ', '"POST /v1/images/edits ')


class LiteLLMProxy:
    """
    One proxy with two models, one at the emulator's OpenAI and one at its Ace Data Cloud.

    :param directory: where it keeps its configuration and its log
    :param emulator: what stands behind it
    :param retries: how often it repeats a request as a whole; its own default when omitted
    """

    def __init__(self, directory: Path, emulator: RunningEmulator, *, retries: int | None = None) -> None:
        home = python_package("litellm", RELEASE)
        configuration = directory / "litellm.yaml"
        # JSON is YAML.
        configuration.write_text(json.dumps(_configuration(emulator, retries)))
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        self.token = "sk-peer"
        self.process = Process(
            "LiteLLM proxy",
            [
                *(sys.executable, "-S", "-c", "from litellm import run_server; run_server()"),
                *("--config", str(configuration), "--host", "127.0.0.1", "--port", str(port)),
            ],
            env=_environment(home, emulator),
            log=directory / "litellm.log",
            cwd=directory,
        )

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.process.start()
        self.process.wait_ready(self._is_alive)

    def stop(self) -> None:
        """End it."""
        self.process.stop()

    def submits(self) -> int:
        """Return how many paid calls it has answered."""
        lines = self.process.log.read_text(errors="replace").splitlines()
        return sum(any(words in line for words in _SUBMIT_LINES) for line in lines)

    def _is_alive(self) -> bool:
        try:
            return httpx.get(f"{self.base_url}/health/liveliness", trust_env=False, timeout=HANG).is_success
        except httpx.TransportError:
            return False


def _configuration(emulator: RunningEmulator, retries: int | None) -> dict[str, Any]:
    behind = {OPENAI: emulator.url("/openai-api/v1"), ACE: emulator.url("/acedatacloud/v1")}
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": "openai/gpt-image-1",
                "api_base": api_base,
                "api_key": emulator.token,
                # Has no effect on images: the OpenAI client inside keeps its own two retries.
                **({} if retries is None else {"max_retries": retries}),
            },
        }
        for name, api_base in behind.items()
    ]
    router = {} if retries is None else {"router_settings": {"num_retries": retries}}
    return {"model_list": models, "general_settings": {"master_key": "sk-peer"}, **router}


def _environment(home: Path, emulator: RunningEmulator) -> dict[str, str]:
    return child_environment() | {
        "PYTHONPATH": str(home),
        # It would fetch its price list from the network at start, and report home.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        # Where its pass-through, everything below /openai, leads to.
        "OPENAI_API_BASE": emulator.url("/openai"),
        "OPENAI_API_KEY": emulator.token,
    }
