"""Ports for tests that run side by side."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

__all__ = ["free_port"]

LOWEST: Final = 15_000
"""Below are ports that programs are known by."""

_given: set[int] = set()
_lots = random.SystemRandom()  # the other one draws the same in each process that tests run in


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listens on, never the same one twice.

    For programs that must be told their port. Where port 0 can be given, give that: between this call and the
    program's own bind another process could take the port. It is none of those that the system gives to connections:
    one of them would have it while a program that a test has killed is away, and keep it from coming back.
    """
    first_of_connections = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = _lots.randrange(LOWEST, first_of_connections) if first_of_connections > 2 * LOWEST else 0
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port
