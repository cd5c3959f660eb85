"""One whole Airflow for what people see of the gallery, and a browser to see it with."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from airflow_provider_imagegen.landing import default_prefix
from tests.gallery.scene import AUTH_MANAGER, AUTHORITY, DAG_IDS, DAGS, FORGED, OPEN, USERS, PrefixedServer, Scene
from tests.stack.browser import install_browser, running_browser
from tests.stack.environment import ROOT
from tests.stack.ports import free_port
from tests.stack.process import Process
from tests.stack.stack import Stack, StackOptions

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.register_assert_rewrite("tests.gallery.whole")

LONG = 10_000
"""Rows of the long batch."""

OPTIONS = StackOptions(
    dag_folders=(DAGS,),
    latency=0.2,
    python_path=(AUTHORITY,),
    settings={"core.auth_manager": AUTH_MANAGER, "core.simple_auth_manager_users": USERS},
)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    logs = ROOT / "stack-logs" / "gallery"
    shutil.rmtree(logs, ignore_errors=True)
    with Stack(logs, OPTIONS) as stack, prefixed_server(stack) as prefixed:
        run_ids = {}
        for dag_id in reversed(DAG_IDS):
            stack.client.wait_for_dag(dag_id)
            run_ids[dag_id] = stack.client.trigger(dag_id)
        for dag_id, run_id in run_ids.items():
            stack.client.wait_for_run(dag_id, run_id)
        home = stack.airflow.home
        yield Scene(home.base_url, run_ids, stack.objectstore, home.directory / "passwords.json", prefixed)


@contextmanager
def prefixed_server(stack: Stack) -> Iterator[PrefixedServer]:
    """Run one more API server, which needs not be ready before it is asked for; it hands pictures out itself."""
    airflow, port = stack.airflow, free_port()
    base_url = f"http://127.0.0.1:{port}/team/airflow"
    settings = {"API__BASE_URL": base_url, "API__PORT": str(port), "IMAGEGEN__GALLERY_REDIRECTS": "False"}
    process = Process(
        "airflow api-server under a path",
        [sys.executable, "-m", "airflow", "api-server", "--workers", "1"],
        env=airflow.environment() | {f"AIRFLOW__{name}": value for name, value in settings.items()},
        log=stack.logs / "api-server-under-a-path.log",
        cwd=airflow.home.directory,
    )
    process.start()
    try:
        yield PrefixedServer(process, base_url)
    finally:
        process.stop()


@pytest.fixture
def prefixed(scene: Scene) -> str:
    """The address of the server under a path."""
    assert scene.prefixed is not None
    scene.prefixed.process.wait_ready(scene.prefixed.answers)
    return scene.prefixed.base_url


@pytest.fixture
def viewer(scene: Scene) -> Iterator[httpx.Client]:
    with scene.client("viewer") as client:
        yield client


@pytest.fixture(scope="module")
def long_batch(scene: Scene) -> Scene:
    """A batch of many rows, all of which have the same picture."""
    image = scene.xcom(OPEN, "pair")["images"][0]
    lines = (
        {"row": row, "key": f"row-{row}", "status": "landed", "images": [image]}
        | {"request": {"model": "gpt-image-1", "prompt": f"Poplar {row}"}}
        for row in range(LONG)
    )
    bucket, key = scene.store.bucket, f"{default_prefix(FORGED, scene.run_ids[FORGED], 'long', -1)}/manifest.jsonl"
    scene.store.client().put_object(Bucket=bucket, Key=key, Body="\n".join(map(json.dumps, lines)).encode())
    scene.forge("long", {"version": 1, "rows": LONG, "images": LONG, "manifest_uri": f"s3://{bucket}/{key}"})
    return scene


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser(install_browser()) as running:
        yield running


@pytest.fixture
def open_page(scene: Scene, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page as a user who has logged in; nothing that it does may be complained of in the console."""
    complaints: list[str] = []
    with ExitStack() as contexts:

        def open_new(
            username: str, path: str, *, base_url: str | None = None, dark: bool = False, bears: str | None = None
        ) -> Page:
            def note(complaint: str) -> None:
                if bears is None or bears not in complaint:
                    complaints.append(complaint)

            base = base_url or scene.base_url
            context = browser.new_context(
                viewport={"width": 1280, "height": 800}, color_scheme="dark" if dark else "light", accept_downloads=True
            )
            contexts.callback(context.close)
            context.add_cookies([{"name": "_token", "value": scene.token(username), "url": base, "httpOnly": True}])
            page = context.new_page()
            page.on("console", lambda message: note(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: note(str(error)))
            page.goto(f"{base}/{path}")
            return page

        yield open_new
    assert complaints == []
