"""Measure the emulator: requests per second by kind, CPU and memory, with ten and fifty thousand open tasks.

The emulator runs in a process of its own; so does the crowd of clients, which speaks bare HTTP so as not to be what
is measured.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

TOKEN = "sesame"
CLIENTS = 48
WAITING = "3600"

# Prints one line of JSON: seconds it took, and answers by status.
CROWD = """
import asyncio, json, sys, time
from collections import Counter
setup = json.loads(sys.stdin.read())
statuses, kept = Counter(), []

def wire(request):
    body = json.dumps(request["body"]).encode() if request["body"] is not None else b""
    head = f"{request['method']} {request['path']} HTTP/1.1\\r\\nhost: {setup['host']}\\r\\n"
    head += f"authorization: Bearer {setup['token']}\\r\\ncontent-type: application/json\\r\\n"
    return (head + f"content-length: {len(body)}\\r\\n\\r\\n").encode() + body

async def client(requests):
    reader, writer = await asyncio.open_connection("127.0.0.1", setup["port"])
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0])
        body = await reader.readexactly(length)
        statuses[head[9:12].decode()] += 1
        if setup["keep"]:
            kept.append(json.loads(body)["task_id"])
    writer.close()

async def main():
    requests = iter([wire(request) for request in setup["requests"]])
    started = time.monotonic()
    await asyncio.gather(*(client(requests) for _ in range(setup["clients"])))
    print(json.dumps({"seconds": time.monotonic() - started, "statuses": statuses, "kept": kept}))

asyncio.run(main())
"""


@dataclass
class Figures:
    """The figures of one kind of request."""

    kind: str
    requests: int
    seconds: float
    cpu_seconds: float
    mebibytes: float

    def row(self) -> tuple[str, ...]:
        rate, share = self.requests / self.seconds, self.cpu_seconds / self.seconds
        each = 1000 * self.cpu_seconds / self.requests
        return (self.kind, f"{rate:.0f}", f"{share:.0%}", f"{each:.2f}", f"{self.mebibytes:.0f}")


class Emulator:
    """An emulator in a process of its own, under a crowd; a context manager."""

    def __init__(self, *arguments: str) -> None:
        self._command = [sys.executable, "-W", "ignore", "-m", "airflow_provider_imagegen.emulator", "--port", "0"]
        self._command += ["--token", TOKEN, *arguments]

    def __enter__(self) -> Emulator:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.base_url = self._process.stdout.readline().split()[3]
        self.control = httpx.Client(base_url=self.base_url, timeout=300, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def crowd(self, kind: str, requests: list[dict[str, Any]], *, keep: bool = False) -> tuple[Figures, list[str]]:
        """Send requests from many clients at once; return the figures, and the ids of the tasks if they are kept."""
        setup = {
            "host": self.base_url.removeprefix("http://"),
            "port": int(self.base_url.rpartition(":")[2]),
            "token": TOKEN,
            "clients": CLIENTS,
            "keep": keep,
            "requests": requests,
        }
        before = self._cpu_seconds()
        command = [sys.executable, "-c", CROWD]
        done = subprocess.run(command, input=json.dumps(setup), check=True, stdout=subprocess.PIPE, text=True)
        response = json.loads(done.stdout)
        assert response["statuses"] == {"200": len(requests)}, response["statuses"]
        cpu = self._cpu_seconds() - before
        return Figures(kind, len(requests), response["seconds"], cpu, self.mebibytes()), response["kept"]

    def mebibytes(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def post(path: str, **body: Any) -> dict[str, Any]:
    return {"method": "POST", "path": path, "body": body}


def submits(count: int, size: str = "1024x1024") -> list[dict[str, Any]]:
    return [
        post(
            "/openai/images/generations",
            prompt=f"a lighthouse in a storm, seen from the sea, number {number}",
            model="gpt-image-1",
            size=size,
            trace_id=f"trace-{number}",
            **{"async": True},
        )
        for number in range(count)
    ]


def bulk_look_ups(ids: list[str], count: int) -> list[dict[str, Any]]:
    """Return requests for 100 tasks each, round and round."""
    starts = (number * 100 % len(ids) for number in range(count))
    return [post("/openai/tasks", action="retrieve_batch", ids=ids[start : start + 100], limit=100) for start in starts]


def look_ups(ids: list[str], count: int) -> list[dict[str, Any]]:
    return [post("/openai/tasks", id=ids[number % len(ids)]) for number in range(count)]


def downloads(emulator: Emulator, ids: list[str], count: int) -> list[dict[str, Any]]:
    """Return downloads of the tasks' images, each image several times over."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    body = {"action": "retrieve_batch", "ids": ids, "limit": 1000}
    records = emulator.control.post("/openai/tasks", json=body, headers=headers).json()["items"]
    urls = [record["response"]["data"][0]["url"].removeprefix(emulator.base_url) for record in records]
    return [{"method": "GET", "path": urls[number % len(urls)], "body": None} for number in range(count)]


def mixed(*kinds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return requests of several kinds, evenly shuffled together."""
    return [request for together in zip(*kinds, strict=True) for request in together]


def measure() -> Table:
    table = Table(title=f"What one emulator bears from {CLIENTS} clients at once")
    for heading in ("requests", "a second", "of one core", "CPU ms each", "memory, MiB"):
        table.add_column(heading, justify="left" if heading == "requests" else "right")
    for figures in (*_waiting(), *_finished()):
        table.add_row(*figures.row())
    return table


def _waiting() -> list[Figures]:
    """Measure with tasks that wait: what a batch's time between submit and result looks like."""
    with Emulator("--image-bytes", "50000") as emulator:
        _, finished = emulator.crowd("", submits(1_000), keep=True)
        images = downloads(emulator, finished, 3_000)
        emulator.control.post("/_emulator/settings", json={"latency": WAITING}).raise_for_status()
        first, ids = emulator.crowd("submits, up to 10 000 open tasks", submits(10_000), keep=True)
        single, _ = emulator.crowd("lookups of one task, 10 000 open", look_ups(ids, 10_000))
        bulk, _ = emulator.crowd("lookups of 100 tasks, 10 000 open", bulk_look_ups(ids, 1_000))
        together = mixed(submits(3_000), look_ups(ids, 3_000), images) + bulk_look_ups(ids, 300)
        random.Random(0).shuffle(together)
        mixture, _ = emulator.crowd("all kinds mixed, 10 000 open", together)
        more, ids = emulator.crowd("submits, up to 50 000 open tasks", submits(37_000), keep=True)
        full, _ = emulator.crowd("lookups of 100 tasks, 50 000 open", bulk_look_ups(ids, 1_000))
        return [first, single, bulk, mixture, more, full]


def _finished() -> list[Figures]:
    """Measure the images: of a given weight, and drawn ones that nobody asked for before."""
    with Emulator("--image-bytes", "50000") as emulator:
        _, ids = emulator.crowd("", submits(1_000), keep=True)
        small, _ = emulator.crowd("downloads of 50 KB", downloads(emulator, ids, 10_000))
        bulk, _ = emulator.crowd("lookups of 100 finished tasks", bulk_look_ups(ids, 1_000))
    with Emulator("--image-bytes", "20000000") as emulator:
        _, ids = emulator.crowd("", submits(10), keep=True)
        large, _ = emulator.crowd("downloads of 20 MB", downloads(emulator, ids, 200))
    with Emulator() as emulator:
        _, ids = emulator.crowd("", submits(500, size="256x256"), keep=True)
        drawn, _ = emulator.crowd("first downloads of drawn 256x256", downloads(emulator, ids, 500))
        again, _ = emulator.crowd("further downloads of them", downloads(emulator, ids, 10_000))
    return [small, bulk, large, drawn, again]
