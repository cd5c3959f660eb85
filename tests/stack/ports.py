"""Free loopback ports for the servers of a stack."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import tempfile
from pathlib import Path

GRPC_PORT_OFFSET = 10_000
"""SeaweedFS opens a gRPC port this far above every port it is given."""

# Below the range from which Linux and macOS take ports for outgoing connections, gRPC ports included.
_CANDIDATES = range(10_240, 22_240)
# An API server binds its port only seconds after it was chosen, while other processes choose theirs: a lock that each
# holds until it ends keeps the port for it.
_LOCKS = Path(tempfile.gettempdir()) / f"imagegen-ports-{os.getuid()}"
_reserved: set[int] = set()


def free_port() -> int:
    """
    Find a loopback port that is free together with its gRPC port.

    :return: a port that no earlier call in this process, nor one in another process that still runs, has returned
    :raises RuntimeError: if a thousand candidates were all taken
    """
    for _ in range(1000):
        port = secrets.choice(_CANDIDATES)
        if all(_is_reserved(number) and _is_free(number) for number in (port, port + GRPC_PORT_OFFSET)):
            return port
    raise RuntimeError(f"No free loopback port between {_CANDIDATES.start} and {_CANDIDATES.stop}.")


def _is_reserved(port: int) -> bool:
    """Reserve a port for this process; return whether that went well."""
    if port in _reserved:
        return False
    _LOCKS.mkdir(exist_ok=True)
    # Never closed, and so not a file object, which would be missed.
    lock = os.open(_LOCKS / str(port), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    _reserved.add(port)
    return True


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
