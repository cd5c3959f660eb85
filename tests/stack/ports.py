"""Free loopback ports for the servers of a stack."""

import secrets
import socket

GRPC_PORT_OFFSET = 10_000
"""SeaweedFS opens a gRPC port this far above every port it is given."""

# Below the range from which Linux and macOS take ports for outgoing connections, gRPC ports included.
_CANDIDATES = range(10_240, 22_240)
_handed_out: set[int] = set()


def free_port() -> int:
    """
    Find a loopback port that is free together with its gRPC port.

    :return: a port no earlier call in this process has returned
    :raises RuntimeError: if a thousand candidates were all taken
    """
    for _ in range(1000):
        port = secrets.choice(_CANDIDATES)
        if port not in _handed_out and _is_free(port) and _is_free(port + GRPC_PORT_OFFSET):
            _handed_out.add(port)
            return port
    raise RuntimeError(f"No free loopback port between {_CANDIDATES.start} and {_CANDIDATES.stop}.")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
