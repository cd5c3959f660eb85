"""Celery workers, each with a home, temporary files and logs of its own, as if on a machine of its own."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.stack.airflow_home import AirflowHome
from tests.stack.process import Process
from tests.stack.waiting import HANG


def celery_settings(broker_url: str, database_url: str, concurrency: int) -> dict[str, str]:
    """
    Return the configuration of an Airflow with the CeleryExecutor.

    :param broker_url: URL of Redis
    :param database_url: URL of the PostgreSQL that keeps Celery's results; Airflow advises against Redis for them
    :param concurrency: how many tasks a worker runs at once
    """
    return {
        "core.executor": "CeleryExecutor",
        "celery.broker_url": broker_url,
        "celery.result_backend": f"db+{database_url}",
        "celery.worker_concurrency": str(concurrency),
        # After a second, which is the default, a busy machine's scheduler would give up sending a task.
        "celery.operation_timeout": str(HANG),
        # The scheduler's own process is enough for a few tasks.
        "celery.sync_parallelism": "1",
    }


class CeleryWorker:
    """
    One ``airflow celery worker``.

    It shares the broker, Celery's results, S3 and Airflow's API with the other components, but no directory that it
    writes to, and it does not know the metadata database.

    :param number: its number, from 1
    :param program: Python's arguments before Airflow's command
    :param home: the configuration of its Airflow
    :param environment: the environment of the Airflow's processes
    :param logs: directory of all logs; its tasks' logs go to a folder of its own there
    """

    def __init__(
        self, number: int, program: Sequence[str], home: AirflowHome, environment: Mapping[str, str], logs: Path
    ) -> None:
        self.name = f"worker-{number}"
        self.task_logs = logs / self.name
        self._directory = home.directory.with_name(self.name)
        self._temporary = self._directory / "tmp"
        own = home.worker_environment(environment, self._directory, self.task_logs)
        self.process = Process(
            f"airflow celery worker ({self.name})",
            [sys.executable, *program, "celery", "worker", "--skip-serve-logs", "--celery-hostname", self.name],
            env=own | {"TMPDIR": str(self._temporary)},
            log=logs / f"{self.name}.log",
            cwd=self._directory,
        )

    def start(self) -> None:
        """Start it; returns at once."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        self.task_logs.mkdir(parents=True, exist_ok=True)
        self.process.start()

    def wait_ready(self, timeout: float = HANG) -> None:
        """
        Wait until it takes tasks.

        :param timeout: seconds until giving up
        """
        self.process.wait_ready(lambda: self.has_logged(f"celery@{self.name} ready"), timeout=timeout)

    def has_logged(self, words: str) -> bool:
        """
        Return whether the worker, not a task of it, has logged some words.

        :param words: what is looked for
        """
        return self.process.log.exists() and words in self.process.log.read_text(errors="replace")

    def tries(self, dag_id: str, run_id: str, task_id: str) -> list[Path]:
        """
        List the logs of the tries of a task that ran here, mapped ones' too.

        :param dag_id: the DAG
        :param run_id: the run
        :param task_id: the task
        """
        folder = self.task_logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return sorted(folder.rglob("attempt=*.log"))
