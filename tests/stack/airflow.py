"""Airflow's own processes: metadata migration, API server, schedulers, DAG processor, triggerers, Celery workers."""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.stack.airflow_home import AirflowHome
from tests.stack.celery_worker import CeleryWorker
from tests.stack.preloading import preloading_program
from tests.stack.process import Process
from tests.stack.rest import AirflowClient
from tests.stack.waiting import HANG

PROGRAM = ("-m", "airflow")
"""Python's arguments before Airflow's command."""


class Airflow:
    """
    One Airflow, a process per component.

    :param home: its configuration
    :param logs: directory of its processes' logs, one file each
    :param preloads: whether what runs tasks, scheduler or Celery worker, imports what they will import
    :param schedulers: how many schedulers
    """

    def __init__(
        self,
        home: AirflowHome,
        logs: Path,
        *,
        preloads: bool = False,
        schedulers: int = 1,
    ) -> None:
        self.home = home
        self._logs = logs
        self._environment = home.environment()
        self._triggerer_numbers = itertools.count(1)
        self._worker_numbers = itertools.count(1)
        self._known_jobs: set[int] = set()
        self.migration = self._process("db migrate")
        self.api_server = self._process("api-server", "--workers", "1")
        self._task_program = preloading_program() if preloads else PROGRAM
        self.schedulers = [
            self._process("scheduler", "--skip-serve-logs", program=self._task_program, log_name=f"scheduler{suffix}")
            for suffix in ("", *(f"-{number}" for number in range(2, schedulers + 1)))
        ]
        self.dag_processor = self._process("dag-processor")
        self.triggerers: list[Process] = []
        self.workers: list[CeleryWorker] = []
        self.client = AirflowClient(home.base_url, home.login.username, home.login.password)

    def environment(self) -> dict[str, str]:
        """
        Tell the environment of its processes, to run ``airflow`` commands against it.

        :return: a copy
        """
        return dict(self._environment)

    def migrate(self) -> None:
        """Make the tables."""
        self.home.prepare()
        self.migration.start()
        self.migration.wait_success()

    def start(self, triggerers: int = 1, celery_workers: int = 0) -> None:
        """
        Start all components; returns at once.

        :param triggerers: how many
        :param celery_workers: how many; the home says which executor there is
        """
        self.api_server.start()
        for scheduler in self.schedulers:
            scheduler.start()
        self.dag_processor.start()
        for _ in range(celery_workers):
            self.launch_worker()
        for _ in range(triggerers):
            self.launch_triggerer()

    def wait_ready(self, timeout: float = HANG) -> None:
        """
        Wait until the API answers and every component has registered itself.

        :param timeout: seconds until giving up, per component
        """
        self.api_server.wait_ready(self._api_answers, timeout=timeout)
        for scheduler in self.schedulers:
            scheduler.wait_ready(lambda: self._newcomers("SchedulerJob", len(self.schedulers)), timeout=timeout)
        self.dag_processor.wait_ready(lambda: self._newcomers("DagProcessorJob", 1), timeout=timeout)
        for triggerer in self.triggerers:
            triggerer.wait_ready(lambda: self._newcomers("TriggererJob", len(self.triggerers)), timeout=timeout)
        for worker in self.workers:
            worker.wait_ready(timeout)
        self._remember_jobs()

    def launch_triggerer(self) -> Process:
        """
        Start one more triggerer; returns at once.

        :return: its process
        """
        number = next(self._triggerer_numbers)
        triggerer = self._process("triggerer", "--skip-serve-logs", log_name=f"triggerer-{number}")
        self.triggerers.append(triggerer)
        triggerer.start()
        return triggerer

    def start_triggerer(self, timeout: float = HANG) -> Process:
        """
        Start one more triggerer and wait until it has registered itself.

        :param timeout: seconds until giving up
        :return: its process
        """
        self._remember_jobs()
        triggerer = self.launch_triggerer()
        triggerer.wait_ready(lambda: self._newcomers("TriggererJob", 1), timeout=timeout)
        return triggerer

    def launch_worker(self) -> CeleryWorker:
        """
        Start one more Celery worker; returns at once.

        :return: the worker
        """
        number = next(self._worker_numbers)
        worker = CeleryWorker(number, self._task_program, self.home, self._environment, self._logs)
        self.workers.append(worker)
        worker.start()
        return worker

    def start_scheduler(self, timeout: float = HANG) -> None:
        """
        Start the first scheduler again and wait until it has registered itself.

        :param timeout: seconds until giving up
        """
        self._remember_jobs()
        self.scheduler.start()
        self.scheduler.wait_ready(lambda: self._newcomers("SchedulerJob", 1), timeout=timeout)

    @property
    def scheduler(self) -> Process:
        """Its first scheduler."""
        return self.schedulers[0]

    @property
    def processes(self) -> list[Process]:
        """All of them, running or not."""
        workers = [worker.process for worker in self.workers]
        return [*self.schedulers, *workers, self.dag_processor, *self.triggerers, self.api_server, self.migration]

    def _process(
        self, command: str, *options: str, program: Sequence[str] = PROGRAM, log_name: str | None = None
    ) -> Process:
        return Process(
            f"airflow {command}",
            [sys.executable, *program, *command.split(), *options],
            env=self._environment,
            log=self._logs / f"{log_name or command.replace(' ', '-')}.log",
            cwd=self.home.directory,
        )

    def _api_answers(self) -> bool:
        """Ask both APIs: the workers' one builds itself at the first request, which takes two seconds."""
        try:
            self.client.request("GET", "/execution/health")
            return self.client.health().database == "healthy"
        except (httpx.TransportError, httpx.HTTPStatusError):
            return False

    def _newcomers(self, job_type: str, wanted: int) -> bool:
        """Tell whether so many components of a type run that were not there when last looked."""
        running = {job.id for job in self.client.jobs(job_type) if job.state == "running"}
        return len(running - self._known_jobs) >= wanted

    def _remember_jobs(self) -> None:
        """A component that was killed stays registered as running, so its successor is known by being new."""
        self._known_jobs |= {job.id for job in self.client.jobs()}
