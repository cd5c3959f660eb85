"""One supervised server process: started with its log, asked whether it is ready, and never left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.stack import process_guard
from tests.stack.waiting import HANG, WaitTimeoutError, wait_until


class ProcessFailedError(RuntimeError):
    """A process of the stack died or did not become ready; the message carries the end of its log."""


class Process:
    """
    A command under a process_guard of its own, which ends it and its descendants when this process lets go or dies.

    :param name: what it is called in messages
    :param command: program and arguments
    :param env: its whole environment
    :param log: file that gets its output, appended
    :param cwd: where it runs
    :param user: numeric user (and group) id to run it as, for programs that refuse root
    :param stop_signal: what asks it to stop
    :param grace: seconds from asking to killing; 0 kills at once
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path | None = None,
        user: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 0.0,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._env = dict(env)
        self._cwd = cwd
        self._user = -1 if user is None else user
        self._stop_signal = stop_signal
        self._grace = grace
        self._guard: subprocess.Popen[bytes] | None = None
        self._leash: int | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        if self.is_alive:
            raise RuntimeError(f"{self.name} is running already.")
        guard_end, self._leash = os.pipe()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.log.open("ab") as output:
                self._guard = subprocess.Popen(
                    [*self._guard_command(guard_end), *self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    cwd=self._cwd,
                    pass_fds=[guard_end],
                    start_new_session=True,
                )
        finally:
            os.close(guard_end)

    def _guard_command(self, guard_end: int) -> list[str]:
        script = [sys.executable, "-I", "-S", str(Path(process_guard.__file__))]
        return [*script, str(guard_end), str(int(self._stop_signal)), str(self._grace), str(self._user)]

    @property
    def is_alive(self) -> bool:
        """True while the process is running."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def pid(self) -> int:
        """The process_guard's process id; everything of this process lives below it."""
        if self._guard is None:
            raise RuntimeError(f"{self.name} was never started.")
        return self._guard.pid

    def wait_ready(self, probe: Callable[[], bool], *, timeout: float = HANG, interval: float = 0.1) -> None:
        """
        Wait until a probe says it is ready.

        :param probe: tells whether it is ready
        :param timeout: seconds until giving up
        :param interval: seconds between two questions
        :raises ProcessFailedError: if it ended, or the time is over
        """

        def alive_and_ready() -> bool:
            if not self.is_alive:
                raise ProcessFailedError(self._autopsy("ended before it was ready"))
            return probe()

        try:
            wait_until(alive_and_ready, what=self.name, timeout=timeout, interval=interval)
        except WaitTimeoutError as error:
            raise ProcessFailedError(self._autopsy(f"was not ready after {timeout:g} s")) from error

    def wait_success(self, *, timeout: float = HANG) -> None:
        """
        Wait until it has ended well, for commands that end.

        :param timeout: seconds until giving up
        :raises ProcessFailedError: if it ended with another status than 0, or the time is over
        """
        if self._guard is None:
            raise RuntimeError(f"{self.name} was never started.")
        try:
            status = self._guard.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise ProcessFailedError(self._autopsy(f"did not end within {timeout:g} s")) from error
        self.let_go()
        if status != 0:
            raise ProcessFailedError(self._autopsy("failed"))

    def terminate(self, *, group: bool = False) -> None:
        """
        Tell the program to stop (SIGTERM), however long it then takes; returns at once.

        :param group: tell the children in its process group too, as an init that passes signals on to all
        """
        # Orphans below it become children of the guard as well, but the program was there before them.
        program = min(psutil.Process(self.pid).children(), key=lambda child: child.create_time())
        if group:
            os.killpg(program.pid, signal.SIGTERM)
        else:
            program.terminate()

    def let_go(self, *, kill: bool = False) -> None:
        """
        Ask it to end and return at once.

        :param kill: kill it and its descendants now (SIGKILL), without the grace
        """
        if self._leash is None:
            return
        if kill:
            with suppress(BrokenPipeError):
                os.write(self._leash, process_guard.KILL_NOW)
        os.close(self._leash)
        self._leash = None

    def stop(self) -> None:
        """End it and its descendants, and return when all are gone."""
        self.let_go()
        if self._guard is not None:
            self._guard.wait()

    def pause(self, title: str = "") -> None:
        """
        Have it and its descendants stand still, as on a machine that gives them no time (SIGSTOP; Linux).

        :param title: only those whose command line begins with this
        """
        self._signal(signal.SIGSTOP, title)

    def resume(self) -> None:
        """Have it and its descendants go on after a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals, title: str = "") -> None:
        for pid in process_guard.descendants(self.pid):
            with suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_text(errors="replace").startswith(title):
                    os.kill(pid, number)

    def kill(self) -> None:
        """Kill it and its descendants at once (SIGKILL), and return when all are gone."""
        self.let_go(kill=True)
        self.stop()

    def log_tail(self, lines: int = 30) -> str:
        """
        Read the end of its log.

        :param lines: how many lines at most
        :return: the lines, or a note that there are none
        """
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:]) or "(empty)"

    def _autopsy(self, what: str) -> str:
        status = self._guard.poll() if self._guard is not None else None
        ending = "" if status is None else f" (exit status {status})"
        return f"{self.name} {what}{ending}. The end of {self.log}:\n{self.log_tail()}"
