"""
``python -m tests.stack.demo``: the example DAG in a real Airflow, from prompt to images in S3.

``KEEP=1`` leaves everything running until Ctrl-C, with schedules and a folder for DAG files. ``IMAGEGEN_HOST``,
``IMAGEGEN_API_KEY`` and ``IMAGEGEN_GATEWAY`` point it at a real API instead of the emulator.
"""

import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from playwright.sync_api import Error as PlaywrightError
from rich.console import Console
from rich.json import JSON
from rich.table import Table

from tests.stack.browser import find_browser
from tests.stack.contact_sheet import draw_contact_sheet
from tests.stack.environment import ROOT
from tests.stack.gallery_page import photograph, run_address
from tests.stack.gateway import Gateway
from tests.stack.process import ProcessFailedError
from tests.stack.progress import RunProgress
from tests.stack.rest import AirflowClient, DagNotFoundError
from tests.stack.stack import EXAMPLES, Stack, StackOptions
from tests.stack.waiting import WaitTimeoutError, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DAG_ID = "example_generate_image"
TASK_ID = "generate"
OUTPUT = ROOT / "demo-output"
DAGS = ROOT / "demo-dags"
"""DAG files of the user's own, which a demo that is kept running reads; never deleted."""
PARALLELISM = 4
"""Tasks at once: with Airflow's default of 32, which are as many processes, a laptop has no core and memory left."""
_LOG_TAIL = 40
_LATENCY = 14.0
"""Seconds for an image: longer than the operator's grace in the worker, so that the deferral shows."""
_PRICES = {"*": {"per_image": "0.04"}}
_SCHEDULED = {
    "scheduler.use_job_schedule": "True",
    # DAG files are written while it runs.
    "dag_processor.refresh_interval": "10",
    "dag_processor.bundle_refresh_check_interval": "5",
    "dag_processor.min_file_process_interval": "10",
}


class DemoFailedError(RuntimeError):
    """The demo did not show what it should; the message says what differs."""


def main() -> int:
    """
    Run the demo.

    :return: exit status: 0 if every billed image has landed
    """
    signal.signal(signal.SIGTERM, _leave)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    try:
        options = _options(Gateway.from_environment())
    except ValueError as error:
        console.print(str(error), style="bold red")
        return 2
    try:
        _show(console, options)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except (DemoFailedError, ProcessFailedError, DagNotFoundError, WaitTimeoutError) as error:
        console.print("The demo failed.", style="bold red")
        console.print(str(error), markup=False)
        console.print(f"Logs: {OUTPUT / 'logs'}")
        return 1
    return 0


def _options(gateway: Gateway | None) -> StackOptions:
    """
    Choose what the stack is like.

    :param gateway: the real API to use; None for the emulator, whose images have a made-up price
    """
    if _is_kept():
        DAGS.mkdir(exist_ok=True)
    return StackOptions(
        dag_folders=(EXAMPLES, DAGS) if _is_kept() else (EXAMPLES,),
        gateway=gateway,
        latency=_LATENCY,
        parallelism=PARALLELISM,
        settings=_SCHEDULED if _is_kept() else {},
        connection_extra={"prices": _PRICES} if gateway is None else {},
    )


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Turn a request to terminate into an orderly end."""
    sys.exit(128 + number)


def _show(console: Console, options: StackOptions) -> None:
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    started = time.monotonic()
    with ExitStack() as cleanup:
        console.print("Starting PostgreSQL, S3, the image gateway and Airflow: about half a minute …")
        with console.status("Starting …"):
            stack = cleanup.enter_context(Stack(OUTPUT / "logs", options))
        console.print(f"Airflow, S3 and the image gateway are up after {time.monotonic() - started:.1f} s.")
        run_id = _follow(console, stack)
        _show_gallery(console, stack, run_id)
        if _is_kept():
            _keep_running(console, stack, run_id)
    console.print(f"Done in {time.monotonic() - started:.0f} s.", style="bold green")
    if not _is_kept():
        console.print("`KEEP=1 make demo` leaves it all running: the gallery, schedules, and a folder for your DAGs.")


def _is_kept() -> bool:
    return os.environ.get("KEEP", "") not in {"", "0"}


def _follow(console: Console, stack: Stack) -> str:
    """Run the example, show its result, and return the run id."""
    run_id, manifest = _run_dag(console, stack.client)
    _print_manifest(console, manifest)
    images = _save_images(stack.objectstore.client(), manifest, OUTPUT)
    sheet = OUTPUT / "contact-sheet.png"
    draw_contact_sheet(images, sheet)
    console.print("\nImages:", style="bold")
    for path in (*images, sheet):
        console.print(f"  {path}")
    if stack.emulator is not None:
        _print_bill(console, stack.ledger(), landed=len(images))
    return run_id


def _show_gallery(console: Console, stack: Stack, run_id: str) -> None:
    """Take an image of the gallery, where there is a browser to take it with."""
    home, file = stack.airflow.home, OUTPUT / "gallery.png"
    address = run_address(home.base_url, DAG_ID, run_id)
    console.print("\nThe gallery in Airflow's UI:", style="bold")
    if _is_kept():
        console.print(f"  {address}", soft_wrap=True)
    executable = find_browser()
    if executable is None:
        console.print("  (no Chromium here, so no image of it; `make browser` installs one)")
        return
    try:
        photograph(executable, home, address, file)
    except (PlaywrightError, WaitTimeoutError) as error:
        console.print(f"  (no image of it: {str(error).splitlines()[0]})")
        return
    console.print(f"  {file}")


def _run_dag(console: Console, client: AirflowClient) -> tuple[str, Mapping[str, Any]]:
    """Start the example, follow it to its end and return the run's id and the manifest from XCom."""
    client.wait_for_dag(DAG_ID)
    run_id = _await_scheduled_run(client) if _is_kept() else client.trigger(DAG_ID)
    with RunProgress(console) as progress:
        run = client.wait_for_run(DAG_ID, run_id, timeout=1800, on_poll=progress.show)
    if run.state != "success":
        raise DemoFailedError(_failure_story(client, run_id))
    manifest: Mapping[str, Any] = client.xcom(DAG_ID, run_id, TASK_ID)
    return run_id, manifest


def _await_scheduled_run(client: AirflowClient) -> str:
    """Unpause the example, and return the id of the run that its schedule starts; another one would be paid as well."""

    def newest() -> str | None:
        runs = client.request("GET", f"dags/{DAG_ID}/dagRuns", limit=1)["dag_runs"]
        return str(runs[0]["dag_run_id"]) if runs else None

    client.unpause(DAG_ID)
    return wait_until(newest, what=f"the schedule of {DAG_ID} to start a run", interval=0.5)


def _start_schedules(stack: Stack) -> str:
    """Unpause the examples, unless each of their runs costs money, and return what that means for the user."""
    if stack.emulator is None:
        stack.client.pause(DAG_ID)
        return "paused, since a real API bills; unpause a DAG to have its schedule start it"
    for dag in stack.client.request("GET", "dags", limit=100)["dags"]:
        stack.client.unpause(dag["dag_id"])
    return "unpaused: schedules and asset events start them; unpause the DAGs that you add in the UI"


def _failure_story(client: AirflowClient, run_id: str) -> str:
    story = [f"The run {run_id} of {DAG_ID} failed."]
    for task in client.task_instances(DAG_ID, run_id):
        if task.state == "failed":
            log = client.log(DAG_ID, run_id, task.task_id, try_number=task.try_number, map_index=task.map_index)
            story.append(f"The end of the log of {task.task_id}, try {task.try_number}:")
            story += [str(event) for event in log[-_LOG_TAIL:]]
    return "\n".join(story)


def _print_manifest(console: Console, manifest: Mapping[str, Any]) -> None:
    console.print("\nLanded in S3:", style="bold")
    for image in manifest["images"]:
        console.print(f"  {image['uri']}", soft_wrap=True)
    table = Table(box=None, padding=(0, 2))
    for column in ("#", "pixels", "bytes", "type", "SHA-256", "task"):
        table.add_column(column, justify="right" if column == "bytes" else "left")
    for image in manifest["images"]:
        pixels = f"{image['width']} x {image['height']}"
        words = (str(image["index"]), pixels, f"{image['bytes']:,}", image["content_type"])
        table.add_row(*words, f"{image['sha256'][:12]}…", f"{image['task_id'][:8]}…")
    console.print(table)
    console.print("\nThe manifest, as the next task gets it from XCom:", style="bold")
    console.print(JSON.from_data(dict(manifest), sort_keys=True), soft_wrap=True)


def _save_images(s3: "S3Client", manifest: Mapping[str, Any], directory: Path) -> list[Path]:
    """Fetch every image from S3, compare it with the manifest, and write it to a file."""
    if manifest["delivered"] != manifest["requested"] or len(manifest["images"]) != manifest["delivered"]:
        raise DemoFailedError(
            f"{manifest['requested']} images were requested, {manifest['delivered']} delivered, "
            f"and the manifest lists {len(manifest['images'])}."
        )
    return [_save_image(s3, image, directory) for image in manifest["images"]]


def _save_image(s3: "S3Client", image: Mapping[str, Any], directory: Path) -> Path:
    content = s3.get_object(Bucket=image["bucket"], Key=image["key"])["Body"].read()
    if hashlib.sha256(content).hexdigest() != image["sha256"]:
        raise DemoFailedError(f"{image['uri']} is not what the manifest says: its SHA-256 differs.")
    path = directory / f"image-{image['index']}{Path(image['key']).suffix}"
    path.write_bytes(content)
    return path


def _print_bill(console: Console, ledger: Mapping[str, Any], *, landed: int) -> None:
    totals = ledger["totals"]
    billed = totals["billed_images"]
    console.print("\nThe gateway's ledger:", style="bold")
    console.print(f"  {totals['submits']} paid requests, {totals['lookup_requests']} lookups (free)")
    console.print(f"  {billed} images billed, {landed} landed in S3")
    if billed != landed:
        raise DemoFailedError(f"{billed} images were billed and {landed} landed.")


def _keep_running(console: Console, stack: Stack, run_id: str) -> None:
    store, home = stack.objectstore, stack.airflow.home
    facts: Sequence[tuple[str, str]] = (
        ("Gallery", run_address(home.base_url, DAG_ID, run_id)),
        ("Airflow", f"{home.base_url}  (user {home.login.username}, password {home.login.password})"),
        ("S3", f"{store.endpoint}  (bucket {store.bucket}, key {store.access_key}, secret {store.secret_key})"),
        ("Gateway", stack.gateway.host),
        ("DAG files", f"{DAGS}  (read every {_SCHEDULED['dag_processor.refresh_interval']} s)"),
        ("DAGs", _start_schedules(stack)),
        ("Tasks", f"{PARALLELISM} at once, so that a laptop stays usable (Airflow's default: 32)"),
        ("Logs", str(stack.logs)),
    )
    console.print("\nStill running; Ctrl-C ends it.", style="bold")
    for name, fact in facts:
        console.print(f"  {name:<9} {fact}")
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print()


if __name__ == "__main__":
    sys.exit(main())
