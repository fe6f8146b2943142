"""The yardstick of a round trip: a message through as many processes as a task passes, and a bare commit.

Client, coordinator, agent, slot and runner are five processes in a row: loopback TCP up to the agent, socket pairs
from there. Each only hands on what it reads. A task is committed twice on its way, once before it runs and once
before its end is told.

Run: python -m benchmarks.relay MESSAGES
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import apsw

from benchmarks.harness import ask_module, disk_directory, percentile

__all__ = ["COMMITS", "bare_commit_ms", "bare_relay_ms"]

MESSAGE_BYTES: Final = 128
"""About what one task is on the channel."""

COMMITS: Final = 2
TCP_HOPS: Final = 2
HOPS: Final = 4
WARM_UP: Final = 50


def bare_relay_ms(count: int) -> tuple[float, float]:
    """Return median and 99th percentile of so many round trips, one after another, in fresh processes."""
    answer = ask_module("benchmarks.relay", count)
    return answer["p50_ms"], answer["p99_ms"]


def bare_commit_ms(count: int) -> tuple[float, float]:
    """Return median and 99th percentile of a commit of one row by SQLite as the store has it: WAL, FULL."""
    taken_ms = []
    with tempfile.TemporaryDirectory(prefix="rota-bench-", dir=disk_directory()) as directory:
        connection = apsw.Connection(str(Path(directory) / "bare.db"))
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE row (key INTEGER, value)",
        ):
            connection.execute(statement).fetchall()
        for number in range(count):
            began = time.perf_counter()
            connection.execute("INSERT INTO row VALUES (?, ?)", (number, bytes(MESSAGE_BYTES)))
            taken_ms.append(1e3 * (time.perf_counter() - began))
        connection.close()
    return statistics.median(taken_ms), percentile(taken_ms, 0.99)


def measure(count: int) -> list[float]:
    near = _chain()
    taken_ms = []
    for _ in range(WARM_UP + count):
        began = time.perf_counter()
        near.sendall(bytes(MESSAGE_BYTES))
        _read(near)
        taken_ms.append(1e3 * (time.perf_counter() - began))
    near.close()
    for _ in range(HOPS):
        os.wait()
    return taken_ms[WARM_UP:]


def _chain() -> socket.socket:
    """Fork the processes from the far end; each holds the socket to the one behind it."""
    behind: socket.socket | None = None
    for hop in reversed(range(HOPS)):
        near, far = _tcp_pair() if hop < TCP_HOPS else socket.socketpair()
        if os.fork() == 0:
            near.close()
            try:
                _hand_on(far, behind)
            finally:
                os._exit(0)
        far.close()
        if behind is not None:
            behind.close()
        behind = near
    assert behind is not None
    return behind


def _hand_on(ahead: socket.socket, behind: socket.socket | None) -> None:
    """Until the one ahead is gone. The last in the row answers itself."""
    with contextlib.suppress(EOFError):
        while True:
            message = _read(ahead)
            if behind is not None:
                behind.sendall(message)
                message = _read(behind)
            ahead.sendall(message)


def _read(connection: socket.socket) -> bytes:
    message = connection.recv(MESSAGE_BYTES, socket.MSG_WAITALL)
    if not message:
        raise EOFError
    return message


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


if __name__ == "__main__":
    found_ms = measure(int(sys.argv[1]))
    print(json.dumps({"p50_ms": statistics.median(found_ms), "p99_ms": percentile(found_ms, 0.99)}))
