"""A typed client of Airflow's REST API, with what the demo and the end-to-end tests ask of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from tests.stack.records import FINISHED_TASK, Connection, DagRun, Health, Job, LogEvent, TaskInstance, moment
from tests.stack.waiting import HANG, wait_until


class DagNotFoundError(RuntimeError):
    """A DAG did not appear; the message carries the import errors of the DAG files."""


class AirflowClient:
    """
    Speaks to one API server as one user; logs in at the first call.

    Every method raises ``httpx.HTTPStatusError`` if the server refuses, with its response in the message.

    :param base_url: the server's address
    :param username: of the simple auth manager
    :param password: of that user
    """

    def __init__(self, base_url: str, username: str, password: str) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=HANG, trust_env=False)
        self._credentials = {"username": username, "password": password}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def request(self, method: str, path: str, *, json: object = None, **params: Any) -> Any:
        """
        Call any endpoint.

        :param method: HTTP method
        :param path: path below ``/api/v2``, or any path of the server if it starts with a slash
        :param json: body
        :param params: query parameters
        :return: the parsed answer, None if empty
        """
        if "Authorization" not in self._http.headers:
            self._log_in()
        url = path if path.startswith("/") else f"/api/v2/{path}"
        return _parsed(self._http.request(method, url, json=json, params=params))

    def health(self) -> Health:
        """Ask for the components' health; needs no login."""
        answer = _parsed(self._http.get("/api/v2/monitor/health"))
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return Health(*((answer.get(part) or {}).get("status") for part in parts))

    def jobs(self, job_type: str | None = None) -> list[Job]:
        """
        List the registered components.

        :param job_type: ``SchedulerJob``, ``TriggererJob`` or ``DagProcessorJob``; None for all
        :return: running ones and gone ones
        """
        params = {"job_type": job_type} if job_type else {}
        answer = self.request("GET", "jobs", limit=100, **params)
        return [Job.of(job) for job in answer["jobs"]]

    def create_connection(self, connection: Connection) -> None:
        """
        Store a connection in the metadata database, in place of one with the same id.

        :param connection: the connection
        """
        body = {
            "connection_id": connection.connection_id,
            "conn_type": connection.conn_type,
            "host": connection.host,
            "login": connection.login,
            "password": connection.password,
            "extra": json.dumps(dict(connection.extra)) if connection.extra else None,
        }
        action = {"action": "create", "entities": [body], "action_on_existence": "overwrite"}
        answer = self.request("PATCH", "connections", json={"actions": [action]})
        if answer["create"]["errors"]:
            raise RuntimeError(f"Airflow refused the connection {connection.connection_id}: {answer}")

    def wait_for_dag(self, dag_id: str, *, timeout: float = HANG) -> None:
        """
        Wait until a DAG is parsed.

        :param dag_id: the DAG
        :param timeout: seconds until giving up
        :raises DagNotFoundError: when the time is over
        """

        def is_known() -> bool:
            try:
                self.request("GET", f"dags/{dag_id}/details")
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:
                    return False
                raise
            return True

        try:
            wait_until(is_known, what=f"DAG {dag_id}", timeout=timeout, interval=0.3)
        except TimeoutError as error:
            found = "\n".join(self.import_errors()) or "no import errors"
            raise DagNotFoundError(f"DAG {dag_id} did not appear within {timeout:g} s: {found}") from error

    def import_errors(self) -> list[str]:
        """List what is wrong with the DAG files, one text each."""
        answer = self.request("GET", "importErrors")
        return [f"{item['filename']}: {item['stack_trace']}" for item in answer["import_errors"]]

    def pause(self, dag_id: str) -> None:
        """
        Pause a DAG.

        :param dag_id: the DAG
        """
        self.request("PATCH", f"dags/{dag_id}", json={"is_paused": True})

    def unpause(self, dag_id: str) -> None:
        """
        Unpause a DAG.

        :param dag_id: the DAG
        """
        self.request("PATCH", f"dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None) -> str:
        """
        Start a run; the DAG is unpaused first, for a paused one's run would stay queued.

        :param dag_id: the DAG
        :param conf: the run's configuration, which overrides params
        :param run_id: id of the run; None to let Airflow choose
        :return: the run's id
        """
        self.unpause(dag_id)
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        answer = self.request("POST", f"dags/{dag_id}/dagRuns", json=body)
        started: str = answer["dag_run_id"]
        return started

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """
        Look at a run.

        :param dag_id: the DAG
        :param run_id: the run
        :return: its state now
        """
        answer = self.request("GET", _run_path(dag_id, run_id))
        return DagRun(dag_id, run_id, answer["state"], moment(answer["start_date"]), moment(answer["end_date"]))

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float = HANG,
        interval: float = 1.0,
        on_poll: Callable[[DagRun, list[TaskInstance]], None] | None = None,
    ) -> DagRun:
        """
        Wait until a run is finished, well or not.

        :param dag_id: the DAG
        :param run_id: the run
        :param timeout: seconds until giving up
        :param interval: seconds between two looks
        :param on_poll: called with the run and its tasks at every poll
        :return: the finished run
        """

        def finished() -> DagRun | None:
            run = self.run(dag_id, run_id)
            if on_poll is not None:
                on_poll(run, self.task_instances(dag_id, run_id))
            return run if run.is_finished else None

        return wait_until(finished, what=f"run {run_id} of {dag_id}", timeout=timeout, interval=interval)

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """
        List the tasks of a run.

        :param dag_id: the DAG
        :param run_id: the run
        :return: one for each task and map index, ordered by them
        """
        found: list[TaskInstance] = []
        while True:
            page = self.request("GET", f"{_run_path(dag_id, run_id)}/taskInstances", limit=100, offset=len(found))
            found += [TaskInstance.of(item) for item in page["task_instances"]]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return sorted(found, key=lambda task: (task.task_id, task.map_index))

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> TaskInstance:
        """
        Look at one task of a run.

        :param dag_id: the DAG
        :param run_id: the run
        :param task_id: the task
        :param map_index: which of a mapped task's
        :return: its state now
        """
        return TaskInstance.of(self.request("GET", _task_path(dag_id, run_id, task_id, map_index)))

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        states: Sequence[str] = tuple(FINISHED_TASK),
        map_index: int = -1,
        timeout: float = HANG,
    ) -> TaskInstance:
        """
        Wait until a task is in one of some states.

        :param dag_id: the DAG
        :param run_id: the run
        :param task_id: the task
        :param states: the states waited for, for instance ``["deferred"]``
        :param map_index: which of a mapped task's
        :param timeout: seconds until giving up
        :return: the task in that state
        """

        def in_state() -> TaskInstance | None:
            task = self.task_instance(dag_id, run_id, task_id, map_index)
            return task if task.state in states else None

        what = f"{task_id} of {dag_id} to be {' or '.join(states)}"
        return wait_until(in_state, what=what, timeout=timeout, interval=0.5)

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """
        Read an XCom value.

        :param dag_id: the DAG
        :param run_id: the run
        :param task_id: the task that pushed it
        :param key: its key
        :param map_index: which of a mapped task's
        :return: the value, as JSON has it
        """
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.request("GET", path, map_index=map_index)["value"]

    def log(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1
    ) -> list[LogEvent]:
        """
        Read the log of one try of a task, worker's and triggerer's parts together.

        :param dag_id: the DAG
        :param run_id: the run
        :param task_id: the task
        :param try_number: which try, from 1
        :param map_index: which of a mapped task's
        :return: its events in order of time; ``str()`` of one is a line
        """
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}"
        answer = self.request("GET", path, full_content=True, map_index=map_index)
        return [LogEvent.of(item) for item in answer["content"]]

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str | tuple[str, int]],
        *,
        downstream: bool = False,
    ) -> None:
        """
        Clear tasks, so that they run again.

        :param dag_id: the DAG
        :param run_id: the run
        :param task_ids: tasks, or pairs of task and map index
        :param downstream: clear what follows them too
        """
        body = {
            "dry_run": False,
            "only_failed": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "include_downstream": downstream,
        }
        self.request("POST", f"dags/{dag_id}/clearTaskInstances", json=body)

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1) -> None:
        """
        Mark a task as failed or successful, as a user does.

        :param dag_id: the DAG
        :param run_id: the run
        :param task_id: the task
        :param state: ``failed``, ``success`` or ``skipped``
        :param map_index: which of a mapped task's
        """
        self.request("PATCH", _task_path(dag_id, run_id, task_id, map_index), json={"new_state": state})

    def _log_in(self) -> None:
        token = _parsed(self._http.post("/auth/token", json=self._credentials))["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"


def _parsed(response: httpx.Response) -> Any:
    if response.is_error:
        request = response.request
        raise httpx.HTTPStatusError(
            f"{request.method} {request.url} answered {response.status_code}: {response.text[:2000]}",
            request=request,
            response=response,
        )
    return response.json() if response.content else None


def _run_path(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{run_id}"


def _task_path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}"
    return path if map_index < 0 else f"{path}/{map_index}"
