"""The gallery's HTTP responses: Airflow's API app in this process, with runs of ``dag.test()``."""

from __future__ import annotations

import importlib.util
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_imagegen.emulator.server import RunningEmulator
from tests.gallery.scene import AUTH_MANAGER, AUTH_MANAGER_FOLDER, DAG_IDS, DAGS, USERS, Scene
from tests.gallery.whole.configuration import TestConfiguration, TestPage, TestStaticFiles, TestWithoutTaskInstances
from tests.gallery.whole.images import TestForgedXComs, TestImage
from tests.gallery.whole.listing import TestFailedBatch, TestLongBatch, TestNewest, TestRun
from tests.gallery.whole.neighbours import TestNeighbours
from tests.gallery.whole.permission import TestHeaders, TestPermission
from tests.integration.conftest import airflow_database, make_known, run_through
from tests.stack.object_store import ObjectStore
from tests.stack.ports import free_port
from tests.stack.tracing import untraced
from tests.stack.waiting import wait_until

__all__ = [
    "TestConfiguration",
    "TestFailedBatch",
    "TestForgedXComs",
    "TestHeaders",
    "TestImage",
    "TestLongBatch",
    "TestNeighbours",
    "TestNewest",
    "TestPage",
    "TestPermission",
    "TestRun",
    "TestStaticFiles",
    "TestWithoutTaskInstances",
    "airflow_database",
]

pytestmark = [
    # Airflow 3.1 says so of itself, when its API is imported.
    pytest.mark.filterwarnings("ignore:'HTTP_422_UNPROCESSABLE_ENTITY' is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def scene(
    airflow_database: None,
    running_emulator: RunningEmulator,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    passwords = tmp_path_factory.mktemp("gallery") / "passwords.json"
    running_emulator.reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(AUTH_MANAGER_FOLDER))
        for name, value in settings(passwords, running_emulator, object_store).items():
            patch.setenv(name, value)
        run_ids = {dag_id: run_of(dag_id) for dag_id in reversed(DAG_IDS)}
        with api_server() as base_url:
            yield Scene(base_url, run_ids, object_store, passwords)


def settings(passwords: Path, emulator: RunningEmulator, store: ObjectStore) -> dict[str, str]:
    gateway = {"conn_type": "imagegen", "host": emulator.base_url, "password": emulator.token}
    keys = {"conn_type": "aws", "login": store.access_key, "password": store.secret_key}
    return {
        "AIRFLOW__CORE__AUTH_MANAGER": AUTH_MANAGER,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": USERS,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__IMAGEGEN__GALLERY_CACHE_DIRECTORY": str(passwords.with_name("thumbnails")),
        "AIRFLOW_VAR_IMAGEGEN_BUCKET": store.bucket,
        "AIRFLOW_CONN_IMAGEGEN_DEFAULT": json.dumps({**gateway, "extra": {"gateway": "acedatacloud"}}),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({**keys, "extra": store.connection_extra}),
    }


def run_of(dag_id: str) -> str:
    """Run a DAG to its end and return the run's id."""
    spec = importlib.util.spec_from_file_location(dag_id, DAGS / f"{dag_id}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make_known(module.dag)
    run_id: str = run_through(module.dag).run_id
    return run_id


@contextmanager
def api_server() -> Iterator[str]:
    """Serve Airflow's API on a thread."""
    import uvicorn
    from airflow.api_fastapi.app import create_app, purge_cached_app

    with untraced():
        app = create_app(apps="core")
    server = uvicorn.Server(
        uvicorn.Config(app, port=free_port(), lifespan="off", ws="none", log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run, name="api-server")
    thread.start()
    try:
        wait_until(lambda: server.started, what="the API server")
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        thread.join()
        purge_cached_app()
