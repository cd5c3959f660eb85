"""Measure the memory of eight concurrent base64 responses of 20 MB: the provider, and ``response.json()``."""

from __future__ import annotations

import json
import subprocess
import sys

from rich.table import Table

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.emulator.settings import DialectName, EmulatorSettings

MEGABYTE = 1_000_000
SIZE = 20 * MEGABYTE
RESPONSES = 8
RUNS = 3

# Each candidate runs in a process of its own; a small response is read before the baseline is taken.
PROLOGUE = """
import asyncio, base64, json, sys, tempfile, time
from pathlib import Path
import httpx
from airflow_provider_imagegen.gateways.response_reader import read_response
setup = json.loads(sys.argv[1])
def peak():
    # Not ru_maxrss: that is inherited from the process that started this one. Linux only.
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
async def longest_pause():
    longest = 0.0
    try:
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - started)
    except asyncio.CancelledError:
        return longest
"""
EPILOGUE = """
async def main():
    async with httpx.AsyncClient(timeout=120) as client:
        request = lambda: client.build_request(
            "POST", setup["url"], json={"model": "gpt-image-1", "prompt": "memory"}, headers=setup["headers"]
        )
        await client.get(setup["health"])
        before = peak()
        pausing = asyncio.create_task(longest_pause())
        with tempfile.TemporaryDirectory() as home:
            await asyncio.gather(*(receive(client, request(), Path(home), n) for n in range(setup["responses"])))
            sizes = [path.stat().st_size for path in Path(home).iterdir()]
        pausing.cancel()
        assert sizes == [setup["size"]] * setup["responses"], sizes
        print(json.dumps([peak() - before, await pausing * 1000]))
asyncio.run(main())
"""
CANDIDATES = {
    "provider: decode into files while streaming": """
async def receive(client, request, home, n):
    content = await read_response(await client.send(request, stream=True), home)
    assert content.response.json()["data"][0]["b64_json"] in content.files
""",
    "response.json(), b64decode, write": """
async def receive(client, request, home, n):
    response = await client.send(request)
    (home / str(n)).write_bytes(base64.b64decode(response.json()["data"][0]["b64_json"]))
""",
}


def measure() -> Table:
    table = Table(
        title=f"{RESPONSES} responses of {SIZE // MEGABYTE} MB in base64 at once, {RUNS} runs each: "
        "peak memory growth, MiB, and longest pause of the event loop, ms"
    )
    for heading in ("variant", "min", "median", "max", "pause min", "pause median", "pause max"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    with RunningEmulator(EmulatorSettings(image_bytes=SIZE, dialect=DialectName.OPENAI)) as emulator:
        for variant, code in CANDIDATES.items():
            growths, pauses = zip(*(_run(code, emulator) for _ in range(RUNS)), strict=True)
            table.add_row(variant, *_spread(growths), *_spread(pauses))
    return table


def _spread(values: tuple[float, ...]) -> list[str]:
    ordered = sorted(values)
    return [f"{value:.1f}" for value in (ordered[0], ordered[len(ordered) // 2], ordered[-1])]


def _run(code: str, emulator: RunningEmulator) -> tuple[float, float]:
    setup = {
        "url": emulator.url("/v1/images/generations"),
        "health": emulator.url("/_emulator/health"),
        "headers": {"authorization": f"Bearer {emulator.token}"},
        "responses": RESPONSES,
        "size": SIZE,
    }
    command = [sys.executable, "-W", "ignore", "-c", PROLOGUE + code + EPILOGUE, json.dumps(setup)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    growth, pause = json.loads(done.stdout.splitlines()[-1])
    return growth, pause
