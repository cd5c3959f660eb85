"""Measure the cost of waiting: tasks on one event loop with a poll interval of 5 s, the provider and alternatives.

``WAITING_TASKS=1000,10000,50000`` sets the sizes. The gateway is the emulator in a process of its own; its CPU is
shown too, because where it is near a whole core, it is the gateway that is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

SIZES = tuple(int(size) for size in os.environ.get("WAITING_TASKS", "1000,10000").split(","))
INTERVAL = 5.0
LEAD = 16.5
"""Seconds before the first task finishes. In the first interval of them the waiters begin, one after the other; in
the last one, in which all wait, requests and CPU are measured."""
WINDOW = 8.0
"""Seconds over which tasks finish, evenly; here the lag is measured."""
LIMIT = LEAD + WINDOW + 2 * INTERVAL
"""Seconds after which a variant that has not noticed every task is reported as blocked."""

GATEWAY = """
import json, random, sys, time, uuid
from airflow_provider_imagegen.emulator.books import Task
from airflow_provider_imagegen.emulator.painter import Drawing
from airflow_provider_imagegen.emulator.server import RunningEmulator
setup = json.loads(sys.argv[1])
with RunningEmulator() as emulator:
    now = time.time()
    image = Drawing(prompt="a kite", size=(1024, 1024))
    request = {"prompt": "a kite", "model": "gpt-image-1", "size": "1024x1024", "async": True}
    ready = {}
    # Tasks finish in another order than that in which their waiters begin.
    for number in random.Random(1).sample(range(setup["count"]), setup["count"]):
        task_id, trace_id = str(uuid.uuid4()), str(uuid.uuid4())
        ready[task_id] = now + setup["lead"] + setup["window"] * number / setup["count"]
        emulator.studio.books.accept(Task(
            id=task_id, trace_id=trace_id, dialect="acedatacloud", route="submit", model="gpt-image-1",
            prompt="a kite", request=request, drawings=(image,), failure=None, created_at=now,
            ready_at=ready[task_id],
        ))
    with open(setup["tasks"], "w") as file:
        json.dump(ready, file)
    counts = emulator.studio.books.counts
    print(json.dumps({"base_url": emulator.base_url, "token": emulator.token, "begun": now}), flush=True)
    figures = []
    for moment in (setup["lead"] - setup["interval"], setup["lead"]):
        time.sleep(max(0.0, now + moment - time.time()))
        figures.append((counts["lookup_requests"], time.process_time()))
    sys.stdin.readline()
    print(json.dumps([after - before for before, after in zip(*figures)]))
"""
PROLOGUE = """
import asyncio, json, sys, time
import httpx
setup = json.loads(sys.argv[1])
ready = json.load(open(setup["tasks"]))
headers = {"authorization": "Bearer " + setup["token"]}
url = setup["base_url"] + "/openai/tasks"
def is_done(response):
    return bool(response.json().get("finished_at"))
def body(task_id):
    return {"action": "retrieve", "id": task_id}
"""
EPILOGUE = """
lags, lead = [], setup["begun"] + setup["lead"]
async def notice(task_id, delay):
    await asyncio.sleep(delay)
    await waiting(task_id)
    lags.append(time.time() - ready[task_id])
async def main():
    async with around():
        apart = setup["interval"] / len(ready)
        waits = [asyncio.create_task(notice(task_id, number * apart)) for number, task_id in enumerate(ready)]
        for moment in (lead - setup["interval"], lead):
            await asyncio.sleep(moment - time.time())
            cpu.append((time.time(), time.process_time() - started))
        await asyncio.wait(waits, timeout=setup["limit"] - setup["lead"])
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
started, cpu = time.process_time(), []
asyncio.run(main())
lags.sort()
(begin, to_begin), (end, to_end) = cpu
print(json.dumps({
    "noticed": len(lags), "to_begin": to_begin, "share": (to_end - to_begin) / (end - begin),
    "p50": lags[len(lags) // 2] if lags else 0, "p99": lags[len(lags) * 99 // 100] if lags else 0,
}))
"""
NOTHING_AROUND = """
import contextlib
around = contextlib.nullcontext
"""
VARIANTS: dict[str, tuple[int, str]] = {
    "provider": (
        1_000_000,
        NOTHING_AROUND
        + """
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.polling import PollSchedule, wait_through
from airflow_provider_imagegen.schemas import OpenTask, Submission
settings = GatewaySettings(base_url=setup["base_url"], token=setup["token"], gateway="acedatacloud")
async def read():
    return settings
begun, schedule = time.time(), PollSchedule(interval=setup["interval"])
async def waiting(task_id):
    one = OpenTask(index=0, count=1, task_id=task_id, scope="", fingerprint="", generation=1)
    submission = Submission(submitted_at=begun, deadline=begun + 600, open=(one,))
    await wait_through("c", read, submission, schedule)
""",
    ),
    "one client per trigger": (
        1_000,
        NOTHING_AROUND
        + """
async def waiting(task_id):
    async with httpx.AsyncClient(headers=headers, timeout=60) as client:
        while not is_done(await client.post(url, json=body(task_id))):
            await asyncio.sleep(setup["interval"])
""",
    ),
    "one client, one lookup per task": (
        10_000,
        """
client = None
class around:
    async def __aenter__(self):
        global client
        client = httpx.AsyncClient(headers=headers, timeout=60)
    async def __aexit__(self, *_):
        await client.aclose()
async def waiting(task_id):
    while not is_done(await client.post(url, json=body(task_id))):
        await asyncio.sleep(setup["interval"])
""",
    ),
    # As the trigger of apache-airflow-providers-openai does it, except that there every trigger makes a client too.
    # Every millisecond of distance to the gateway, here none, is one in which the whole loop stands still.
    "a blocking call in run(), one client": (
        10_000,
        NOTHING_AROUND
        + """
client = httpx.Client(headers=headers, timeout=60)
async def waiting(task_id):
    while not is_done(client.post(url, json=body(task_id))):
        await asyncio.sleep(setup["interval"])
""",
    ),
}


def measure() -> Table:
    table = Table(
        title=f"Waiting for tasks on one event loop, lookups every {INTERVAL:g} s; "
        "lag from finished to noticed; CPU as share of one core, and in seconds until all wait"
    )
    headings = (
        "tasks",
        "variant",
        "requests a tick",
        "CPU",
        "CPU per 1000",
        "to begin",
        "lag p50",
        "lag p99",
        "gateway's CPU",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for size in SIZES:
        for variant, (largest, code) in VARIANTS.items():
            table.add_row(
                str(size), variant, *(_row(size, code) if size <= largest else ("not run: blocked at the size below",))
            )
    return table


def _row(size: int, code: str) -> tuple[str, ...]:
    figures, (requests, gateway_cpu) = _run(size, code)
    if figures is None:
        return (f"{requests:.0f}", "event loop blocked", *[""] * 4, f"{gateway_cpu / INTERVAL:.0%}")
    noticed = figures["noticed"]
    lags = [f"{figures[name]:.2f} s" for name in ("p50", "p99")]
    if noticed < size:
        lags = ["blocked:", f"{noticed / size:.0%} noticed"]
    return (
        f"{requests:.0f}",
        f"{figures['share']:.1%}",
        f"{figures['share'] / size * 1000:.2%}",
        f"{figures['to_begin']:.1f} s",
        *lags,
        f"{gateway_cpu / INTERVAL:.0%}",
    )


def _run(size: int, code: str) -> tuple[dict[str, Any] | None, tuple[int, float]]:
    """Run one variant in its own process, against a gateway in another.

    :return: The figures of both, without those of a variant that did not end in time; the gateway's are requests and
        CPU seconds of the interval in which all wait.
    """
    with tempfile.TemporaryDirectory() as home:
        setup: dict[str, Any] = {"count": size, "lead": LEAD, "window": WINDOW, "limit": LIMIT, "interval": INTERVAL}
        setup["tasks"] = str(Path(home) / "tasks.json")
        command = [sys.executable, "-W", "ignore", "-c", GATEWAY, json.dumps(setup)]
        # Clients that collapse make it complain.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, **pipes) as gateway:
            assert gateway.stdout is not None
            setup |= json.loads(gateway.stdout.readline())
            command = [sys.executable, "-W", "ignore", "-c", PROLOGUE + code + EPILOGUE, json.dumps(setup)]
            figures = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT + 5)
                figures = json.loads(done.stdout.splitlines()[-1])
            output, _ = gateway.communicate("\n")
    return figures, tuple(json.loads(output))
