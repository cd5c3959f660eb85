"""Measure the throughput from a URL to S3: the provider, a plain download and put, and the upper limit of S3.

The limit downloads nothing: it puts from memory what the others fetch over loopback first, on the same cores.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tests.stack.environment import child_environment
from tests.stack.object_store import ObjectStore
from tests.stack.ports import free_port
from tests.stack.process import Process

MEGABYTE = 1_000_000
ROUNDS = 3
AT_ONCE = 8
AT_ONCE_FOR_MEMORY = 16
BUCKET = "benchmark"
WANTED = 0.9

# Serves /<bytes>: a PNG of noise of so many bytes, from memory.
SOURCE = """
import sys
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from airflow_provider_imagegen.emulator.painter import noise_png

image = cache(noise_png)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = image(int(self.path.strip("/")))
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# Each variant runs in a process of its own; what it needs is imported and connected before the clock starts.
PROLOGUE = """
import asyncio, json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import boto3, requests
from botocore.config import Config
from PIL import Image, PngImagePlugin
from airflow_provider_imagegen.gateways.client import tls_context
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing import Landing, verify
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.schemas import ImageOutput, ImageTask

setup = json.loads(sys.argv[1])
count, at_once, url = setup["count"], setup["at_once"], f'{setup["source"]}/{setup["size"]}'
config = Config(max_pool_connections=at_once, request_checksum_calculation="when_required")
s3 = boto3.client("s3", config=config, **setup["s3"])
s3.put_object(Bucket=setup["bucket"], Key="warm-up", Body=b"x" * 1000)
body = requests.get(url).content if setup["holds_body"] else b""
settings = GatewaySettings(base_url=setup["source"], token="t", gateway="acedatacloud")
task = ImageTask(state="succeeded", task_id="task", trace_id="trace")
tls_context(True)

def peak():
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

def in_threads(work):
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(work, range(count)))
"""
EPILOGUE = """
before = peak()
start, cpu, loop = time.perf_counter(), time.process_time(), time.thread_time()
run()
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "cpu": time.process_time() - cpu,
    "main_thread": time.thread_time() - loop,
    "growth": peak() - before,
    "peak": peak(),
}))
"""
OURS = "provider: stream to a file, verify, put"
USUAL = "requests.get().content, put_object"
LIMIT = "put_object from memory: the limit"
VARIANTS = {
    OURS: """
async def land():
    turns = asyncio.Semaphore(at_once)
    async with Landing(s3, Destination(bucket=setup["bucket"], prefix="provider"), settings, {}) as landing:
        async def one(number):
            async with turns:
                await landing.land(ImageOutput(url=url), number, task, str(number))
        await asyncio.gather(*(one(number) for number in range(count)))
def run():
    asyncio.run(land())
""",
    USUAL: """
def run():
    in_threads(lambda number: s3.put_object(
        Bucket=setup["bucket"], Key=f"usual/{number}.png", Body=requests.get(url).content
    ))
""",
    LIMIT: """
def run():
    in_threads(lambda number: s3.put_object(Bucket=setup["bucket"], Key=f"limit/{number}.png", Body=body))
""",
}
# What verifying alone costs, in the same process image.
VERIFYING = """
import tempfile
def run():
    with tempfile.TemporaryFile() as file:
        file.write(body)
        for _ in range(count):
            verify(file)
"""


@dataclass(frozen=True)
class Load:
    """So many images of one size."""

    count: int
    megabytes: int

    def __str__(self) -> str:
        return f"{self.count} x {self.megabytes} MB"

    @property
    def total(self) -> int:
        """Megabytes of all of them."""
        return self.count * self.megabytes


LOADS = (Load(200, 2), Load(40, 20))
LOADS_FOR_MEMORY = (Load(32, 2), Load(16, 20), Load(16, 60))


@dataclass(frozen=True)
class Result:
    """The figures of one run of one variant, with the CPU time of the servers; memory in MiB."""

    seconds: float
    cpu: float
    main_thread: float
    growth: float
    peak: float
    source_cpu: float
    store_cpu: float


@dataclass(frozen=True)
class Bench:
    """The servers that all variants use."""

    address: str
    source: Process
    store: ObjectStore

    def run(self, code: str, load: Load, at_once: int, *, holds_body: bool = False) -> Result:
        """Run one variant in a fresh process."""
        setup = {
            "source": self.address,
            "count": load.count,
            "size": load.megabytes * MEGABYTE,
            "at_once": at_once,
            "holds_body": holds_body,
            "bucket": BUCKET,
            "s3": _s3(self.store),
        }
        command = [sys.executable, "-W", "ignore", "-c", PROLOGUE + code + EPILOGUE, json.dumps(setup)]
        servers = (self.source, self.store.process)
        before = [_cpu_of(server) for server in servers]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=child_environment())
        source_cpu, store_cpu = (_cpu_of(server) - start for server, start in zip(servers, before, strict=True))
        return Result(**json.loads(done.stdout.splitlines()[-1]), source_cpu=source_cpu, store_cpu=store_cpu)


def measure() -> Group:
    parts: list[Table | Text] = []
    for load in LOADS:
        with _bench(load) as bench:
            parts += _compared(bench, load)
    parts.append(_memory())
    return Group(*parts)


def _compared(bench: Bench, load: Load) -> Iterator[Table | Text]:
    # One variant after the other, again and again: what else the machine does hits all alike.
    rounds = [
        {variant: bench.run(code, load, AT_ONCE, holds_body=variant == LIMIT) for variant, code in VARIANTS.items()}
        for _ in range(ROUNDS)
    ]
    results = {variant: [one[variant] for one in rounds] for variant in VARIANTS}
    yield _table(load, results)
    for other in (USUAL, LIMIT):
        ratios = [one[other].seconds / one[OURS].seconds for one in rounds]
        yield Text(f"Ours / {other}: {_spread(ratios, '.2f')} of its throughput")
        if other == LIMIT and statistics.median(ratios) < WANTED:
            yield from _profile(bench, load, results)


def _table(load: Load, results: dict[str, list[Result]]) -> Table:
    table = Table(title=f"{load}, {AT_ONCE} at once, {ROUNDS} rounds: median (least-most)")
    for heading in ("variant", "MB/s", "CPU-s per GB", "peak RSS, MiB", "growth, MiB"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for variant, runs in results.items():
        table.add_row(
            variant,
            _spread([load.total / run.seconds for run in runs], ".0f"),
            _spread([1000 * run.cpu / load.total for run in runs], ".2f"),
            _spread([run.peak for run in runs], ".0f"),
            _spread([run.growth for run in runs], ".0f"),
        )
    return table


def _profile(bench: Bench, load: Load, results: dict[str, list[Result]]) -> Iterator[Table | Text]:
    """Say where the CPU time goes that the limit does not need."""
    verifying = bench.run(VERIFYING, load, 1, holds_body=True).cpu
    ours, limit = (min(results[variant], key=lambda run: run.seconds) for variant in (OURS, LIMIT))
    stages = {
        "fetching: event loop, writing the file": (ours.main_thread, 0.0),
        "verifying, with SHA-256": (verifying, 0.0),
        "putting": (ours.cpu - ours.main_thread - verifying, limit.cpu),
        "the source": (ours.source_cpu, limit.source_cpu),
        "the store": (ours.store_cpu, limit.store_cpu),
    }
    table = Table(title=f"CPU-s per GB, {load}, best rounds")
    for heading in ("stage", "provider", "limit"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, costs in {**stages, "all": _sums(stages.values())}.items():
        table.add_row(stage, *(f"{1000 * cost / load.total:.2f}" for cost in costs))
    yield table
    all_of_ours, all_of_limit = _sums(stages.values())
    yield Text(
        f"Less than {WANTED:.0%} of the limit. Provider and servers share {os.cpu_count()} cores: by their total "
        f"CPU time, the provider can reach {all_of_limit / all_of_ours:.2f} of the limit here. With dedicated cores "
        f"a process reaches {_per_core(ours, load)} MB/s of the provider, {_per_core(limit, load)} of the limit."
    )


def _per_core(run: Result, load: Load) -> str:
    return f"{load.total / run.cpu:.0f}"


def _sums(pairs: Iterable[tuple[float, float]]) -> tuple[float, ...]:
    return tuple(map(sum, zip(*pairs, strict=True)))


def _memory() -> Table:
    table = Table(title=f"Memory growth with {AT_ONCE_FOR_MEMORY} at once, MiB")
    for heading in ("variant", *map(str, LOADS_FOR_MEMORY)):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    growths: dict[str, list[str]] = {OURS: [], USUAL: []}
    for load in LOADS_FOR_MEMORY:
        with _bench(load) as bench:
            for variant, row in growths.items():
                row.append(f"{bench.run(VARIANTS[variant], load, AT_ONCE_FOR_MEMORY).growth:.0f}")
    for variant, row in growths.items():
        table.add_row(variant, *row)
    return table


@contextmanager
def _bench(load: Load) -> Iterator[Bench]:
    """Start source and store; the store's gigabytes go with them."""
    with tempfile.TemporaryDirectory() as home:
        store = ObjectStore(Path(home) / "s3", Path(home) / "seaweedfs.log", BUCKET)
        port = free_port()
        command = [sys.executable, "-c", SOURCE, str(port)]
        log = Path(home) / "source.log"
        source = Process("source", command, env=child_environment(), log=log, cwd=Path.cwd())
        address = f"http://127.0.0.1:{port}"
        try:
            store.start()
            source.start()
            store.wait_ready()
            source.wait_ready(lambda: _answers(f"{address}/{load.megabytes * MEGABYTE}"), timeout=60)
            yield Bench(address, source, store)
        finally:
            source.stop()
            store.process.stop()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=30, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _cpu_of(process: Process) -> float:
    """Return the CPU seconds that a server has used so far."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    times = [member.cpu_times() for member in family]
    return sum(time.user + time.system for time in times)


def _s3(store: ObjectStore) -> dict[str, str]:
    return {
        "endpoint_url": store.endpoint,
        "region_name": store.connection_extra["region_name"],
        "aws_access_key_id": store.access_key,
        "aws_secret_access_key": store.secret_key,
    }


def _spread(values: list[float], form: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}}-{high:{form}})"
