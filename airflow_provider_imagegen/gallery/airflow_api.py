"""Airflow's REST API, asked in process and with the rights of whoever asks the gallery.

So it works behind any proxy, and what a user may not read is refused by Airflow itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from fastapi import HTTPException

from airflow_provider_imagegen.gallery.asgi import Application
from airflow_provider_imagegen.redaction import foreign_json, redacted

RETURN_VALUE = "return_value"
ALL = "~"
"""Stands for all DAGs, runs or tasks in Airflow's API."""
NO_IDS = frozenset({"", ".", "..", ALL})
"""Ids that mean something else in a path: ``..`` is taken out of it by clients and browsers."""
MAX_XCOM_BYTES = 4 * 1024 * 1024
"""Largest XCom that is shown; a manifest has a few kilobytes."""

_AT_ONCE = 100
_PASSED_ON = frozenset({401, 403, 404})


@dataclass(frozen=True, order=True)
class Instance:
    """A task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True)
class Returned:
    """A task instance that returned something.

    :param at: When; another time means another value.
    """

    instance: Instance
    at: str


@dataclass(frozen=True)
class Run:
    """A DAG run.

    :param state: Airflow's word for it.
    :param started_at: ISO 8601; ``None`` if it is queued.
    """

    dag_id: str
    run_id: str
    state: str
    started_at: str | None

    @property
    def is_finished(self) -> bool:
        """Whether no more images come of it."""
        return self.state in {"success", "failed"}


@dataclass(frozen=True)
class EndedTask:
    """A task instance that ended without a result.

    :param operator: Name of the operator's class, or of the decorator.
    """

    instance: Instance
    state: str
    operator: str
    ended_at: str | None


Item = TypeVar("Item")


@dataclass(frozen=True)
class Some(Generic[Item]):
    """A stretch of a list.

    :param has_more: Whether there are more behind it; servers hand out fewer at once than they are asked for.
    """

    items: list[Item]
    has_more: bool


class AirflowApi:
    """The API of the server that the gallery is part of.

    :param server: The API server's ASGI application.
    :param root_path: Path under which the server is reached.
    :param token: Token of the user.
    """

    def __init__(self, server: Application, root_path: str, token: str) -> None:
        self._server = server
        self._base = f"http://airflow{root_path}/api/v2/"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def run(self, dag_id: str, run_id: str) -> Run:
        """Return a run.

        :raises HTTPException: If it is not there or not for this user.
        """
        return _run(await self._get(f"dags/{_segment(dag_id)}/dagRuns/{_segment(run_id)}"))

    async def newest_runs(self, dag_id: str | None, offset: int) -> Some[Run]:
        """Return runs of the DAGs that the user may read, the last started first.

        :param dag_id: Of this DAG only.
        :raises HTTPException: If they are not for this user.
        """
        path = f"dags/{_segment(dag_id) if dag_id else ALL}/dagRuns"
        return await self._some(path, "dag_runs", _run, offset, order_by="-start_date")

    async def returned(self, dag_id: str, run_id: str, offset: int) -> Some[Returned]:
        """Return which task instances of a run have returned something, in order of tasks and map indexes.

        :raises HTTPException: If they are not for this user.
        """
        path = f"{_tasks(dag_id, run_id)}/{ALL}/xcomEntries"
        return await self._some(path, "xcom_entries", _returned, offset, xcom_key=RETURN_VALUE)

    async def xcom(self, instance: Instance, key: str = RETURN_VALUE) -> Any:
        """Return an XCom's value, made fit to be shown; ``None`` if there is none.

        :raises HTTPException: If it is not for this user, or cannot be read.
        """
        task = f"{_tasks(instance.dag_id, instance.run_id)}/{_segment(instance.task_id)}"
        response = await self._response(f"{task}/xcomEntries/{_segment(key)}", map_index=instance.map_index)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        size = len(_checked(response).content)
        if size > MAX_XCOM_BYTES:
            # Other operators may return that much, and it is no business of the gallery's.
            if b"manifest_uri" not in response.content:
                return None
            raise HTTPException(413, f"The XCom has {size} bytes (limit: {MAX_XCOM_BYTES}).")
        try:
            return foreign_json(_decoded(response.json()["value"]))
        except RecursionError:
            raise HTTPException(422, "The XCom is nested too deeply.") from None
        except ValueError:
            raise HTTPException(422, "The XCom is not valid JSON.") from None

    async def ended_tasks(self, dag_id: str, run_id: str, states: Sequence[str], offset: int) -> Some[EndedTask]:
        """Return task instances of a run in some states.

        :raises HTTPException: If they are not for this user.
        """
        return await self._some(_tasks(dag_id, run_id), "task_instances", _ended, offset, state=list(states))

    async def rendered_fields(self, instance: Instance) -> dict[str, Any]:
        """Return the rendered template fields of a task instance, which some releases leave out of lists.

        :raises HTTPException: If they are not for this user.
        """
        path = f"{_tasks(instance.dag_id, instance.run_id)}/{_segment(instance.task_id)}"
        if instance.map_index >= 0:
            path = f"{path}/{instance.map_index}"
        fields: dict[str, Any] = foreign_json((await self._get(path)).get("rendered_fields") or {})
        return fields

    async def _some(
        self, path: str, field: str, read: Callable[[dict[str, Any]], Item], offset: int, **params: Any
    ) -> Some[Item]:
        page = await self._get(path, offset=offset, limit=_AT_ONCE, **params)
        items = [read(item) for item in page[field]]
        return Some(items, has_more=bool(items) and offset + len(items) < page["total_entries"])

    async def _get(self, path: str, **params: Any) -> Any:
        return _checked(await self._response(path, **params)).json()

    async def _response(self, path: str, **params: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._server, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            return await client.get(f"{self._base}{path}", params=params, headers=self._headers)


def _checked(response: httpx.Response) -> httpx.Response:
    if response.status_code in _PASSED_ON:
        raise HTTPException(response.status_code, _words(response))
    if response.is_error:
        raise HTTPException(502, f"Airflow's API returned {response.status_code}.")
    return response


def _run(item: dict[str, Any]) -> Run:
    return Run(item["dag_id"], item["dag_run_id"], item["state"], item["start_date"])


def _returned(item: dict[str, Any]) -> Returned:
    instance = Instance(item["dag_id"], item["run_id"], item["task_id"], item["map_index"])
    return Returned(instance, item["timestamp"])


def _ended(item: dict[str, Any]) -> EndedTask:
    return EndedTask(
        instance=Instance(item["dag_id"], item["dag_run_id"], item["task_id"], item["map_index"]),
        state=item["state"],
        operator=item.get("operator_name") or item.get("operator") or "",
        ended_at=item["end_date"],
    )


def _decoded(value: Any) -> Any:
    """Return a value that some releases hand out as the JSON text they store; 3.1 encodes changed ones twice."""
    for _ in range(2):
        if not isinstance(value, str):
            break
        try:
            value = json.loads(value)
        except ValueError:
            break
    return value


def _tasks(dag_id: str, run_id: str) -> str:
    return f"dags/{_segment(dag_id)}/dagRuns/{_segment(run_id)}/taskInstances"


def _segment(text: str) -> str:
    """Return an id as a segment of a path.

    :raises HTTPException: If a path cannot hold it; Airflow's own pages cannot show it either.
    """
    if text in NO_IDS or "/" in text:
        raise HTTPException(404, f"No URL can contain the id {text!r}.")
    return quote(text, safe="")


def _words(response: httpx.Response) -> str:
    try:
        return redacted(str(response.json()["detail"]))
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase
