"""The process that decodes images for thumbnails: started when it is needed, and again after an image has ended it.

A process for every thumbnail would take longer to start than to decode.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from contextlib import suppress
from threading import Lock, Timer

from airflow_provider_imagegen.gallery import shrinking
from airflow_provider_imagegen.gallery.shrinking import NoThumbnail

CPU_SECONDS = 10
"""Time that one image may take; one of 40 million pixels takes one to three."""
MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space of the process; an image of 40 million pixels takes half of it."""
DEADLINE_SECONDS = 60
"""Time by the clock, for a process that waits instead of working."""

# What Python may need to start. Not the rest: a flaw in a decoder must find no credentials.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPYCACHEPREFIX")


class Decoder:
    """A process that makes small versions, one at a time. Blocking: call it from a thread.

    :param cpu_seconds: Time that one image may take.
    :param memory_bytes: Address space of the process.
    """

    def __init__(self, cpu_seconds: int = CPU_SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
        self._limits = [str(cpu_seconds), str(memory_bytes)]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    @property
    def process_id(self) -> int | None:
        """Id of the process; ``None`` if it is not running."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def shrunk(self, content: bytes) -> bytes:
        """Return an image's small version.

        :raises NoThumbnail: If there can be none.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._started()
            is_image, made = _exchanged(self._process, content)
        if not is_image:
            raise NoThumbnail(made.decode())
        return made

    def _started(self) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        process = subprocess.Popen(  # noqa: S603 - our own module and numbers
            [sys.executable, "-P", "-W", "ignore", "-m", shrinking.__name__, *self._limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        weakref.finalize(self, _end, process)
        return process


def _exchanged(process: subprocess.Popen[bytes], content: bytes) -> tuple[bool, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = Timer(DEADLINE_SECONDS, process.kill)
    deadline.start()
    try:
        shrinking.send(process.stdin, True, content)
        return shrinking.receive(process.stdout)
    except (OSError, EOFError):
        _end(process)
        words = f"decoding it takes too much time or memory (the decoder ended with {process.returncode})"
        raise NoThumbnail(words) from None
    finally:
        deadline.cancel()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with suppress(OSError):
        # Closes its pipes, which may hold bytes that nobody reads.
        process.communicate()
