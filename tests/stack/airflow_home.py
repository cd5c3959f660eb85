"""A temporary Airflow installation as environment variables: no airflow.cfg, nothing shared with another one."""

import base64
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.stack.environment import child_environment
from tests.stack.waiting import HANG


@dataclass(frozen=True)
class Login:
    """A user of the API server."""

    username: str = "admin"
    password: str = "admin"


@dataclass(frozen=True)
class AirflowHome:
    """
    The directories and the configuration of one Airflow.

    :param directory: its AIRFLOW_HOME
    :param task_logs: where the tasks' logs go
    :param port: the API server's port
    :param database_url: SQLAlchemy URL of its metadata
    :param dag_folders: folders of DAG files, one bundle each
    :param parallelism: how many tasks run at once
    :param variables: Airflow Variables, given through the environment
    :param python_path: folders whose modules and packages Airflow finds besides the installed ones
    :param settings: more configuration, as ``{"section.option": value}``; wins over what is set here
    :param path: what its addresses begin with, such as ``/team/airflow``, as behind a proxy
    """

    directory: Path
    task_logs: Path
    port: int
    database_url: str
    dag_folders: Sequence[Path]
    parallelism: int = 8
    variables: Mapping[str, str] = field(default_factory=dict)
    python_path: Sequence[Path] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    login: Login = Login()

    @property
    def base_url(self) -> str:
        """The API server's address."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def prepare(self) -> None:
        """Make the directory and the file of logins."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.task_logs.mkdir(parents=True, exist_ok=True)
        self._passwords.write_text(json.dumps({self.login.username: self.login.password}))

    def environment(self) -> dict[str, str]:
        """
        Say all this in environment variables.

        :return: the whole environment for every Airflow process; the secrets in it differ at every call
        """
        options = self._locations() | self._secrets() | self._tempo() | _bounds() | dict(self.settings)
        variables = {f"AIRFLOW_VAR_{name.upper()}": value for name, value in self.variables.items()}
        return (
            child_environment()
            | variables
            | {_variable(name): value for name, value in options.items()}
            | {"AIRFLOW_HOME": str(self.directory)}
            | {"PYTHONPATH": os.pathsep.join(filter(None, [*map(str, self.python_path), os.environ.get("PYTHONPATH")]))}
        )

    def worker_environment(self, environment: Mapping[str, str], directory: Path, task_logs: Path) -> dict[str, str]:
        """
        Say the same for a worker on a machine of its own, which is not told where the metadata database is.

        :param environment: the environment of the other processes
        :param directory: the worker's AIRFLOW_HOME
        :param task_logs: where the logs of its tasks go
        :return: the whole environment of the worker
        """
        locations = replace(self, directory=directory, task_logs=task_logs)._locations() | dict(self.settings)
        own = {_variable(name): value for name, value in locations.items()} | {"AIRFLOW_HOME": str(directory)}
        everything = {**environment, **own}
        del everything[_variable("database.sql_alchemy_conn")]
        return everything

    @property
    def _passwords(self) -> Path:
        return self.directory / "passwords.json"

    def _locations(self) -> dict[str, str]:
        return {
            "database.sql_alchemy_conn": self.database_url,
            "core.executor": "LocalExecutor",
            "core.load_examples": "False",
            "core.dags_are_paused_at_creation": "True",
            "core.plugins_folder": str(self.directory / "plugins"),
            "core.execution_api_server_url": f"{self.base_url}/execution/",
            "core.simple_auth_manager_users": f"{self.login.username}:admin",
            "core.simple_auth_manager_passwords_file": str(self._passwords),
            # The default asks the name service for the full name, which may take seconds without a network.
            "core.hostname_callable": "socket.gethostname",
            "core.test_connection": "Enabled",
            "api.host": "127.0.0.1",
            "api.port": str(self.port),
            "api.base_url": self.base_url,
            "logging.base_log_folder": str(self.task_logs),
            "logging.dag_processor_child_process_log_directory": str(self.task_logs / "dag_processor"),
            "logging.colored_console_log": "False",
            "dag_processor.dag_bundle_config_list": json.dumps(self._bundles()),
            "dag_processor.dag_bundle_storage_path": str(self.directory / "bundles"),
        }

    def _bundles(self) -> list[dict[str, object]]:
        return [
            {
                "name": f"dags-{number}-{folder.name}",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(folder)},
            }
            for number, folder in enumerate(self.dag_folders)
        ]

    def _secrets(self) -> dict[str, str]:
        return {
            "core.fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "api.secret_key": secrets.token_hex(32),
            "api_auth.jwt_secret": secrets.token_urlsafe(64),
        }

    def _tempo(self) -> dict[str, str]:
        """Shorten the waits between Airflow's components; the workers' heartbeat stays at its default on purpose."""
        return {
            "core.parallelism": str(self.parallelism),
            # Unpausing a scheduled DAG would start its latest interval at once, beside the run that is triggered.
            "scheduler.use_job_schedule": "False",
            "scheduler.scheduler_idle_sleep_time": "0.3",
            # The DAG files are there from the start and stay as they are: each is parsed once.
            "dag_processor.bundle_refresh_check_interval": "60",
            "dag_processor.min_file_process_interval": "86400",
            "dag_processor.parsing_processes": "1",
        }


def _bounds() -> dict[str, str]:
    """
    Say how long Airflow waits before it takes something for dead or lost: long enough for a machine that is busy.

    What a test kills is declared dead in the database instead (:meth:`tests.stack.stack.Stack.kill_triggerer`).
    """
    options = (
        "api.log_fetch_timeout_sec",
        "api.worker_timeout",
        "core.dagbag_import_timeout",
        "core.task_success_overtime",
        "dag_processor.dag_file_processor_timeout",
        "dag_processor.health_check_threshold",
        "dag_processor.stale_dag_threshold",
        "openlineage.execution_timeout",
        "scheduler.scheduler_health_check_threshold",
        "scheduler.task_instance_heartbeat_timeout",
        "scheduler.task_queued_timeout",
        "triggerer.on_kill_timeout",
        "triggerer.runner_health_check_threshold",
        "triggerer.triggerer_health_check_threshold",
        "workers.execution_api_timeout",
        "workers.socket_cleanup_timeout",
    )
    return {option: str(round(HANG)) for option in options} | {"execution_api.jwt_expiration_time": "86400"}


def _variable(option: str) -> str:
    section, _, name = option.partition(".")
    return f"AIRFLOW__{section.upper()}__{name.upper()}"
