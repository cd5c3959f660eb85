"""Measure the memory of landing one image of 20 MB: the provider, and a download followed by a put."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.emulator.settings import EmulatorSettings
from tests.stack.object_store import ObjectStore

MEGABYTE = 1_000_000
SIZE = 20 * MEGABYTE
RUNS = 3
BUCKET = "benchmark"

# Each candidate runs in a process of its own; what it needs is imported and connected before the baseline.
PROLOGUE = """
import asyncio, json, sys, time
import boto3, httpx, requests
from airflow_provider_imagegen.gateways.client import ImageClient, tls_context
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.schemas import ImageRequest
from PIL import Image, PngImagePlugin
setup = json.loads(sys.argv[1])
s3 = boto3.client("s3", **setup["s3"])
s3.head_bucket(Bucket=setup["bucket"])
s3.put_object(Bucket=setup["bucket"], Key="warm-up", Body=b"x" * 1000)
settings = GatewaySettings(base_url=setup["gateway"], token=setup["token"], gateway="acedatacloud")
async def order():
    async with ImageClient(settings) as client:
        submitted = await client.submit(ImageRequest(prompt="memory", model="gpt-image-1"), "trace")
        return (await client.look_up([submitted.task_id]))[submitted.task_id]
task = asyncio.run(order())
httpx.get(setup["gateway"] + "/_emulator/health", verify=tls_context(True))
def peak():
    # Not getrusage: its peak is inherited from the process that started this one.
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
before = peak()
"""
EPILOGUE = "print(peak() - before)"
CANDIDATES = {
    "provider: stream to a file, verify, put": """
async def land():
    destination = Destination(bucket=setup["bucket"], prefix="provider")
    async with Landing(s3, destination, settings, {}) as landing:
        await landing.land(task.outputs[0], 0, task, "0")
asyncio.run(land())
""",
    "requests.get().content, put_object(Body=bytes)": """
body = requests.get(task.outputs[0].url).content
s3.put_object(Bucket=setup["bucket"], Key="theirs/0.png", Body=body)
""",
}


def measure() -> Table:
    table = Table(title=f"Peak memory growth while landing one image of {SIZE // MEGABYTE} MB, MiB, {RUNS} runs each")
    for heading in ("variant", "min", "median", "max"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    with tempfile.TemporaryDirectory() as home, RunningEmulator(EmulatorSettings(image_bytes=SIZE)) as emulator:
        store = ObjectStore(Path(home) / "s3", Path(home) / "seaweedfs.log", BUCKET)
        store.start()
        try:
            store.wait_ready()
            for variant, code in CANDIDATES.items():
                growths = sorted(_growth(code, emulator, store) for _ in range(RUNS))
                table.add_row(variant, *(f"{growth:.1f}" for growth in (growths[0], growths[RUNS // 2], growths[-1])))
        finally:
            store.process.stop()
    return table


def _growth(code: str, emulator: RunningEmulator, store: ObjectStore) -> float:
    setup = {
        "bucket": BUCKET,
        "gateway": emulator.base_url,
        "token": emulator.token,
        "s3": {
            "endpoint_url": store.endpoint,
            "region_name": store.connection_extra["region_name"],
            "aws_access_key_id": store.access_key,
            "aws_secret_access_key": store.secret_key,
        },
    }
    command = [sys.executable, "-W", "ignore", "-c", PROLOGUE + code + EPILOGUE, json.dumps(setup)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])
