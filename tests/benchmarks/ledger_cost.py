"""Measure the cost of the ledger per image: S3 requests, and CPU time in one run with it and without.

Twice: as a task of its own, which makes an S3 client first as the operator does, and in the bare engine, where
images follow each other on one client.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table

from airflow_provider_imagegen.emulator.server import RunningEmulator
from tests.stack.object_store import ObjectStore

IMAGES = 40
RUNS = 5
BUCKET = "benchmark"

# Without the ledger means the same code with a ledger that keeps its records in memory.
SCRIPT = """
import asyncio, json, sys, time, uuid
import boto3
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.engine.options import JobOptions
from airflow_provider_imagegen.storage.destination import Destination
from airflow_provider_imagegen.ledger.models import Attempt, Entry
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.engine.run import GenerateRun
from airflow_provider_imagegen.schemas import ImageRequest
setup = json.loads(sys.argv[1])

class InMemory(Ledger):
    def create(self, record, key):
        return Entry(record, "etag", is_new=True)
    def update(self, key, entry, **changes):
        return Entry(entry.record.model_copy(update=changes), "etag")

kind = Ledger if setup["ledger"] else InMemory
counts = {"ledger": 0, "other": 0}
def count(request, **_):
    counts["ledger" if "/ledger/" in request.url else "other"] += 1
def client():
    made = boto3.session.Session().client("s3", **setup["s3"])
    made.meta.events.register("before-send.s3", count)
    return made
shared = client()
settings = GatewaySettings(base_url=setup["gateway"], token=setup["token"], gateway="acedatacloud")

def work(number):
    run = str(uuid.uuid4())
    s3 = client() if setup["own_client"] else shared
    return GenerateRun(
        request=ImageRequest(prompt=f"lighthouse {number}", model="gpt-image-1", size="1024x1024"),
        settings=settings, s3=s3, destination=Destination(bucket=setup["bucket"], prefix=run),
        ledger=kind(s3, setup["bucket"], "ledger"),
        options=JobOptions(attempt=Attempt(dag_id="d", task_id="t", run_id=run)), deferrable=False,
    )
asyncio.run(work(0).begin())
counts.update(ledger=0, other=0)
start = time.process_time()
for number in range(1, setup["images"] + 1):
    asyncio.run(work(number).begin())
print(json.dumps({"cpu": time.process_time() - start, **counts}))
"""


def measure() -> Table:
    table = Table(title=f"The ledger's share of landing an image, {IMAGES} images a run, {RUNS} paired runs")
    for heading in ("variant", "ledger's S3 requests", "other S3 requests", "CPU ms with", "CPU ms without", "ratio"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    with tempfile.TemporaryDirectory() as home, RunningEmulator() as emulator:
        store = ObjectStore(Path(home) / "s3", Path(home) / "seaweedfs.log", BUCKET)
        store.start()
        try:
            store.wait_ready()
            for variant, own_client in (("a task of its own", True), ("bare engine, one S3 client", False)):
                _add_row(table, variant, own_client, emulator, store)
        finally:
            store.process.stop()
    return table


def _add_row(table: Table, variant: str, own_client: bool, emulator: RunningEmulator, store: ObjectStore) -> None:
    pairs = [(_run(True, own_client, emulator, store), _run(False, own_client, emulator, store)) for _ in range(RUNS)]
    per_image = [statistics.median(1000 * pair[side]["cpu"] / IMAGES for pair in pairs) for side in (0, 1)]
    ratios = [ours["cpu"] / bare["cpu"] for ours, bare in pairs]
    table.add_row(
        variant,
        f"{pairs[0][0]['ledger'] / IMAGES:.1f}",
        f"{pairs[0][0]['other'] / IMAGES:.1f}",
        *(f"{cpu:.1f}" for cpu in per_image),
        f"{min(ratios):.2f} / {statistics.median(ratios):.2f} / {max(ratios):.2f}",
    )


def _run(with_ledger: bool, own_client: bool, emulator: RunningEmulator, store: ObjectStore) -> dict[str, float]:
    setup = {
        "ledger": with_ledger,
        "own_client": own_client,
        "images": IMAGES,
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
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(setup)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result
