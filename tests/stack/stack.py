"""Everything together: starts a stack in a temporary home, waits until it is ready, and ends all of it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.stack.airflow import Airflow
from tests.stack.airflow_home import AirflowHome
from tests.stack.broker import Broker
from tests.stack.celery_worker import CeleryWorker, celery_settings
from tests.stack.database import Database
from tests.stack.environment import ROOT
from tests.stack.gateway import Emulator, Gateway
from tests.stack.object_store import ObjectStore
from tests.stack.ports import free_port
from tests.stack.process import Process
from tests.stack.rest import AirflowClient, Connection
from tests.stack.temporary import make_temporary_directory
from tests.stack.waiting import scaled

EXAMPLES = ROOT / "dags_examples"
_FRUGAL = {"scheduler.scheduler_idle_sleep_time": "0.5", "imagegen.minimum_deferral": str(scaled(10.0))}
DEFAULT_BUCKET = "imagegen-demo"


@dataclass(frozen=True)
class StackOptions:
    """
    What may differ from stack to stack.

    :param dag_folders: folders of DAG files, one bundle each
    :param gateway: a real API to use; None starts the emulator
    :param latency: seconds the emulator takes for an image, or a range such as ``1-8``
    :param emulator_options: more command-line options of the emulator
    :param bucket: the bucket, which DAGs find in the Airflow Variable ``imagegen_bucket``
    :param parallelism: how many tasks run at once
    :param triggerers: how many triggerers
    :param schedulers: how many schedulers
    :param celery_workers: how many Celery workers; 0 for the LocalExecutor
    :param celery_concurrency: how many tasks a Celery worker runs at once
    :param python_path: folders whose modules and packages Airflow finds besides the installed ones
    :param settings: more Airflow configuration, as ``{"section.option": value}``; by default only what is triggered
        runs, neither schedules nor assets (``scheduler.use_job_schedule``)
    :param connection_extra: more extra fields of the connection ``imagegen_default``
    :param frugal: whether to spend less CPU than users' stacks do: images are drawn coarsely, and tasks find imported
        what they import; nor does a scheduler that is late fail what returns from a deferral
    :param path: what Airflow's addresses begin with, such as ``/team/airflow``, as behind a proxy
    """

    dag_folders: Sequence[Path] = (EXAMPLES,)
    gateway: Gateway | None = None
    latency: float | str = 5.0
    emulator_options: Sequence[str] = ()
    bucket: str = DEFAULT_BUCKET
    parallelism: int = 8
    triggerers: int = 1
    schedulers: int = 1
    celery_workers: int = 0
    celery_concurrency: int = 4
    python_path: Sequence[Path] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    connection_extra: Mapping[str, Any] = field(default_factory=dict)
    frugal: bool = False
    path: str = ""


class Stack:
    """
    Emulator, SeaweedFS, PostgreSQL, Airflow, and Redis for Celery, on free loopback ports; a context manager.

    Leaving the context, for any reason, ends every process and deletes everything but the logs.
    If this process dies without leaving it, the processes end all the same.

    :param logs: directory of all logs: one file per process, and the tasks' logs in ``tasks``
    :param options: what may differ from stack to stack
    """

    def __init__(self, logs: Path, options: StackOptions | None = None) -> None:
        self.logs = logs.resolve()
        self.options = options or StackOptions()
        self._home = make_temporary_directory("home")
        self.objectstore = ObjectStore(self._home / "s3", self._log("seaweedfs"), self.options.bucket)
        self.database = Database(self._log("postgresql"))
        self.broker: Broker | None = None
        if self.options.celery_workers:
            self.broker = Broker(self._home / "redis", self._log("redis"))
        self.emulator: Emulator | None = None
        if self.options.gateway is None:
            self.emulator = Emulator(
                self._log("emulator"),
                latency=self.options.latency,
                options=self.options.emulator_options,
                coarse=self.options.frugal,
            )
        self.airflow = Airflow(
            self._airflow_home(),
            self.logs,
            preloads=self.options.frugal,
            schedulers=self.options.schedulers,
        )

    @property
    def client(self) -> AirflowClient:
        """The REST client of its API server, as admin."""
        return self.airflow.client

    @property
    def gateway(self) -> Gateway:
        """The image API it talks to."""
        if self.emulator is not None:
            return self.emulator.gateway
        assert self.options.gateway is not None
        return self.options.gateway

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """
        Start everything and wait until all of it is ready.

        :raises ProcessFailedError: if a process ended or did not become ready in time
        """
        self.database.start()
        if self.broker is not None:
            self.broker.start()
            self.broker.wait_ready()
        self.objectstore.start()
        if self.emulator is not None:
            self.emulator.start()
        self.database.wait_ready()
        self.airflow.migrate()
        self.airflow.start(self.options.triggerers, self.options.celery_workers)
        self.objectstore.wait_ready()
        if self.emulator is not None:
            self.emulator.wait_ready()
        self.airflow.wait_ready()
        for connection in self._connections():
            self.client.create_connection(connection)

    def stop(self) -> None:
        """End every process, users before what they use, and delete everything but the logs."""
        _end(self.airflow.processes)
        brokers = [] if self.broker is None else [self.broker.process]
        _end([self.objectstore.process, *brokers, *self.database.processes])
        self.client.close()
        if self.emulator is not None:
            _end([self.emulator.process])
            self.emulator.close()
        self.database.remove()
        shutil.rmtree(self._home, ignore_errors=True)

    def kill_triggerer(self, index: int = 0) -> None:
        """
        Kill a triggerer and its children with SIGKILL, and have Airflow take it for dead at once.

        :param index: which of the running ones
        """
        self.airflow.triggerers.pop(index).kill()
        self._declare_dead("TriggererJob")

    def start_triggerer(self) -> None:
        """Start one more triggerer and wait until it has registered itself."""
        self.airflow.start_triggerer()

    def kill_scheduler(self) -> None:
        """Kill the scheduler and its children, running tasks too, with SIGKILL; its successor takes it for dead."""
        self.airflow.scheduler.kill()
        self._declare_dead("SchedulerJob")

    def start_scheduler(self) -> None:
        """Start the scheduler again and wait until it has registered itself."""
        self.airflow.start_scheduler()

    def workers(self, count: int) -> list[CeleryWorker]:
        """
        Start Celery workers for those that have ended, and wait until all take tasks.

        :param count: how many are to run
        :return: all that run
        """
        running = self.airflow.workers
        running[:] = [worker for worker in running if worker.process.is_alive]
        while len(running) < count:
            self.airflow.launch_worker()
        for worker in running:
            worker.wait_ready()
        return list(running)

    def declare_task_dead(self, task_instance_id: str) -> None:
        """
        Have the scheduler take a task for dead whose supervisor was killed.

        :param task_instance_id: Airflow's id of the try
        """
        self.database.execute(
            "UPDATE task_instance SET last_heartbeat_at = last_heartbeat_at - INTERVAL '1 day'"
            " WHERE id = CAST(:id AS uuid)",
            id=task_instance_id,
        )

    def _declare_dead(self, job_type: str) -> None:
        """Make the last heartbeats of components a day old; those that live beat again within seconds."""
        self.database.execute(
            "UPDATE job SET latest_heartbeat = latest_heartbeat - INTERVAL '1 day'"
            " WHERE job_type = :job_type AND state = 'running'",
            job_type=job_type,
        )

    def ledger(self) -> Mapping[str, Any]:
        """
        Ask the emulator what it has billed.

        :return: its ledger
        :raises RuntimeError: if the stack talks to a real API
        """
        return self._its_emulator.ledger()

    def rows(self, prompt: str) -> list[Mapping[str, Any]]:
        """
        Ask the emulator for its rows of some prompts.

        :param prompt: what the prompts contain
        :return: in order of acceptance
        """
        return [row for row in self.ledger()["rows"] if prompt in (row.get("prompt") or "")]

    def arm(self, route: str, kind: str, **details: Any) -> None:
        """
        Make something go wrong, as the emulator's ``POST /_emulator/faults`` does.

        :param route: what it strikes
        :param kind: what goes wrong
        :param details: more fields of the fault
        """
        self._its_emulator.control("POST", "faults", {"route": route, "kind": kind, **details})

    def faults(self) -> list[Mapping[str, Any]]:
        """
        Ask the emulator what is armed.

        :return: the faults, each with how often it was seen and has fired
        """
        found: list[Mapping[str, Any]] = self._its_emulator.control("GET", "faults")["faults"]
        return found

    def disarm(self) -> None:
        """Make nothing go wrong any more; what is held stays held."""
        self._its_emulator.control("DELETE", "faults")

    def hold(self, prompt: str | None = None) -> None:
        """
        Leave the tasks that the emulator accepts from now on unfinished, until they are released.

        :param prompt: only those whose prompt contains this
        """
        self.arm("submit", "hold", times=None, prompt=prompt)

    def release(self, prompt: str = "") -> None:
        """
        Finish the tasks that are held, and hold no more.

        :param prompt: only those whose prompt contains this
        """
        self._its_emulator.control("POST", "release", prompt=prompt)

    def change(self, **settings: Any) -> None:
        """
        Change the emulator's settings, as ``POST /_emulator/settings`` does.

        :param settings: new values by name, for instance ``latency=3``
        """
        self._its_emulator.control("POST", "settings", settings)

    @property
    def _its_emulator(self) -> Emulator:
        if self.emulator is None:
            raise RuntimeError("A real API has no ledger to look at, and no controls.")
        return self.emulator

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _airflow_home(self) -> AirflowHome:
        return AirflowHome(
            directory=self._home / "airflow",
            task_logs=self.logs / "tasks",
            port=free_port(),
            database_url=self.database.url,
            dag_folders=self.options.dag_folders,
            parallelism=self.options.parallelism,
            variables={"imagegen_bucket": self.options.bucket},
            python_path=self.options.python_path,
            settings=self._settings(),
            path=self.options.path,
        )

    def _settings(self) -> dict[str, str]:
        options, settings = self.options, {}
        if self.broker is not None:
            settings = celery_settings(self.broker.url, self.database.url, options.celery_concurrency)
        return settings | (_FRUGAL if options.frugal else {}) | dict(options.settings)

    def _connections(self) -> list[Connection]:
        gateway, store = self.gateway, self.objectstore
        connections = [
            Connection(
                "imagegen_default",
                "imagegen",
                host=gateway.host,
                password=gateway.token,
                extra={"gateway": gateway.name, **self.options.connection_extra},
            ),
            Connection(
                "aws_default", "aws", login=store.access_key, password=store.secret_key, extra=store.connection_extra
            ),
        ]
        if self.emulator is not None:
            extra, host = {"gateway": "openai"}, f"{gateway.host}/openai-api"
            connections.append(
                Connection("imagegen_openai", "imagegen", host=host, password=gateway.token, extra=extra)
            )
        return connections


def _end(processes: Sequence[Process]) -> None:
    """End several at the same time."""
    for process in processes:
        process.let_go()
    for process in processes:
        process.stop()
