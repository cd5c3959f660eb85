"""
Run one command until the parent closes a pipe; then end the command and all its descendants.

Started by :mod:`tests.stack.process` as a separate script, standard library only. The guard reads the pipe. At
its end of file, which also comes when the parent is killed, it terminates the command and kills what is left
after a grace period; the byte ``KILL_NOW`` skips the grace period. Airflow's task runners and
PostgreSQL's backends leave their process group, so descendants are found by parentage, not by group.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

KILL_NOW = b"k"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ON_LINUX = sys.platform == "linux"


def main(pipe: int, stop_signal: int, grace: float, user: int, command: list[str]) -> int:
    """
    Run the command until it exits or the parent closes the pipe.

    :param pipe: file descriptor to read from
    :param stop_signal: what asks the command to stop
    :param grace: seconds between asking and killing
    :param user: numeric id to run the command as; negative for one's own
    :param command: program and arguments
    :return: the command's exit status, 128 + n if signal n ended it
    """
    wake = _wake_on_signals()
    if _ON_LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # Keep the process handle: a dropped handle reaps the child, and its exit is not noticed.
    process = _start(command, user)
    leader = process.pid
    status = _watch(leader, [pipe, wake])
    if status is None:
        status = _stop(leader, stop_signal, grace if _peek(pipe) != KILL_NOW else 0.0)
    return _kill_descendants(leader, status)


def _start(command: list[str], user: int) -> subprocess.Popen[bytes]:
    identity = user if user >= 0 else None
    die_with_guard = (lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)) if _ON_LINUX else None
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=die_with_guard,  # noqa: PLW1509  the process_guard has one thread
        user=identity,
        group=identity,
        extra_groups=None if identity is None else [],
    )


def _wake_on_signals() -> int:
    """Make child exits and termination requests readable on a descriptor."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reader


def _watch(leader: int, descriptors: list[int]) -> int | None:
    """Wait for the leader to exit (its status) or for the pipe or a signal to end it (None)."""
    pipe, wake = descriptors
    while True:
        readable, _, _ = select.select(descriptors, [], [])
        if pipe in readable:
            return None
        woken_by = os.read(wake, 256)
        status = _reap(leader)
        if status is not None or set(woken_by) != {signal.SIGCHLD}:
            return status


def _reap(leader: int) -> int | None:
    """Collect every child that has exited, adopted ones too; tell the leader's status if it was among them."""
    status = None
    with suppress(ChildProcessError):
        while True:
            pid, raw = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == leader:
                status = raw
    return status


def _stop(leader: int, stop_signal: int, grace: float) -> int | None:
    deadline = time.monotonic() + grace
    if grace > 0:
        with suppress(ProcessLookupError):
            os.kill(leader, stop_signal)
    status = None
    while status is None and time.monotonic() < deadline:
        time.sleep(0.02)
        status = _reap(leader)
    return status


def _kill_descendants(leader: int, status: int | None) -> int:
    """Kill until no child is left: a killed child's own children come back to us, the subreaper."""
    while True:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            pid, raw = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if pid == leader:
            status = raw
    code = os.waitstatus_to_exitcode(status) if status is not None else 0
    return 128 - code if code < 0 else code


def descendants(root: int) -> list[int]:
    """
    List the processes below one, as far as the system tells (Linux).

    :param root: process id
    """
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    queue = list(children.get(root, []))
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def _peek(pipe: int) -> bytes:
    readable, _, _ = select.select([pipe], [], [], 0)
    return os.read(pipe, 1) if readable else b""


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    _leash, _signal, _grace, _user = sys.argv[1:5]
    sys.exit(main(int(_leash), int(_signal), float(_grace), int(_user), sys.argv[5:]))
