"""The setup of the gallery tests: an API server, finished runs, S3, and users with different permissions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from airflow_provider_imagegen.storage.destination import default_prefix
from tests.stack.object_store import ObjectStore
from tests.stack.waiting import HANG

DAGS = Path(__file__).parent / "dags"
AUTH_MANAGER_FOLDER = Path(__file__).parent / "auth_manager"
AUTH_MANAGER = "picky_auth_manager.PickyAuthManager"
USERS = "admin:admin,viewer:viewer,guest:viewer,reader:viewer,nobody:"
"""Guests see only DAGs that are open, readers no task instances; the last one has no role, so no permission at all."""

LONG = 10_000
"""Rows of the long batch."""

OPEN, CLOSED, FORGED = DAG_IDS = ("gallery_open", "gallery_closed", "gallery_open_forged")


@dataclass(frozen=True)
class Scene:
    """The setup of the gallery tests.

    :param base_url: The API server's address.
    :param run_ids: The finished run of every DAG.
    :param store: S3.
    :param passwords: File of the users' passwords.
    """

    base_url: str
    run_ids: dict[str, str]
    store: ObjectStore
    passwords: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def password(self, username: str) -> str:
        found: str = json.loads(self.passwords.read_text())[username]
        return found

    def token(self, username: str) -> str:
        if username not in self.tokens:
            credentials = {"username": username, "password": self.password(username)}
            response = httpx.post(f"{self.base_url}/auth/token", json=credentials, trust_env=False)
            self.tokens[username] = response.raise_for_status().json()["access_token"]
        return self.tokens[username]

    def client(self, username: str | None, base_url: str | None = None) -> httpx.Client:
        """Return a client with the cookie that a browser has after logging in."""
        return self.client_with({} if username is None else {"_token": self.token(username)}, base_url)

    def client_with(self, cookies: dict[str, str], base_url: str | None = None) -> httpx.Client:
        return httpx.Client(base_url=base_url or self.base_url, cookies=cookies, timeout=HANG, trust_env=False)

    def path(self, dag_id: str) -> str:
        """Return the path of a DAG's run, below the gallery and below Airflow's UI alike."""
        return f"dags/{dag_id}/runs/{quote(self.run_ids[dag_id], safe='')}"

    def xcom(self, dag_id: str, task_id: str) -> Any:
        with self.client("admin") as admin:
            value = admin.get(self._xcom(dag_id, task_id)).raise_for_status().json()["value"]
        return json.loads(value) if isinstance(value, str) else value

    def forge(self, task_id: str, value: Any, key: str = "return_value") -> None:
        """Change what a task has left, as everybody may who may write XComs."""
        with self.client("admin") as admin:
            admin.patch(self._xcom(FORGED, task_id, key), json={"value": value}).raise_for_status()

    def put_long_batch(self) -> None:
        """Forge a batch of many rows, all of which have the same image."""
        image = self.xcom(OPEN, "pair")["images"][0]
        lines = (
            {"row": row, "key": f"row-{row}", "status": "landed", "images": [image]}
            | {"request": {"model": "gpt-image-1", "prompt": f"Poplar {row}"}}
            for row in range(LONG)
        )
        self.forge("long", self.put_rows(self.store.bucket, "long", lines))

    def put_rows(self, bucket: str, task_id: str, lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Put the rows of a batch, and return the summary that names them."""
        key = f"{default_prefix(FORGED, self.run_ids[FORGED], task_id, -1)}/manifest.jsonl"
        body = "\n".join(map(json.dumps, lines)).encode()
        digest = hashlib.sha256(body).hexdigest()
        noted = {"airflow-dag": FORGED, "sha256": digest}
        self.store.client().put_object(Bucket=bucket, Key=key, Body=body, Metadata=noted)
        place = {"manifest_uri": f"s3://{bucket}/{key}", "manifest_sha256": digest}
        return {"version": 1, "rows": body.count(b"\n") + 1, "images": 0, **place}

    def _xcom(self, dag_id: str, task_id: str, key: str = "return_value") -> str:
        run_id = quote(self.run_ids[dag_id], safe="")
        return f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
