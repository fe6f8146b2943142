"""Ports for tests that run side by side."""

from __future__ import annotations

import socket

__all__ = ["free_port"]

_given: set[int] = set()


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listens on, never the same one twice.

    For programs that must be told their port. Where port 0 can be given, give that: between this
    call and the program's own bind another process could take the port.
    """
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port
