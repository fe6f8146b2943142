"""How a runner comes into being: forked from its slot, which has everything loaded, in about a millisecond.

The slot's own descriptors are closed in it, and it gets what a program expects of a process: a session, signals with
their defaults, an environment, standard streams, an empty ``__main__``.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import socket
import sys
import traceback
import types
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NoReturn

from rota.worker.slots.functions.console import Console
from rota.worker.slots.functions.output_pair import OutputPair
from rota.worker.slots.functions.runner import CHUNK_HEADER, Runner
from rota.worker.slots.functions.window import Window
from rota.worker.slots.linux import become_subreaper, die_with_parent, name_process

__all__ = ["FEED_AHEAD_BYTES", "RunnerProcess", "fork_runner"]

FEED_AHEAD_BYTES: Final = 1 << 16
"""What may wait to be sent to a runner, besides what is in its socket: over this, orders stay with the slot."""

RING_BYTES_MAX: Final = 4096

BROKEN_CODE: Final = 70
"""The exit code of a runner that failed by itself: ``EX_SOFTWARE``."""


class RunnerProcess:
    """The slot's end of a runner."""

    def __init__(self, pid: int, pid_fd: int, connection: socket.socket) -> None:
        self.pid = pid
        self.pid_fd = pid_fd
        self.fd = connection.fileno()
        self._socket = connection
        self._socket.setblocking(False)
        self._outgoing = bytearray()

    @property
    def has_outgoing(self) -> bool:
        """Whether the socket was full."""
        return bool(self._outgoing)

    @property
    def may_be_fed(self) -> bool:
        """Whether it has taken most of what it was sent."""
        return len(self._outgoing) < FEED_AHEAD_BYTES

    def feed(self, encoded: bytes | bytearray, *, era: int, first: int) -> None:
        """Send a chunk of orders."""
        header = CHUNK_HEADER.pack(len(encoded), era, first)
        was_empty = not self._outgoing
        self._outgoing += header
        self._outgoing += encoded
        if was_empty:
            self.send_more()

    def send_more(self) -> None:
        """Send as much as it takes. If it is gone, its pidfd says so."""
        with suppress(BlockingIOError):
            try:
                while self._outgoing:
                    del self._outgoing[: self._socket.send(self._outgoing)]
            except (BrokenPipeError, ConnectionResetError):
                self._outgoing.clear()

    def hear(self) -> None:
        """Take what was rung."""
        with suppress(BlockingIOError, ConnectionResetError):
            self._socket.recv(RING_BYTES_MAX)

    def stop(self) -> None:
        """Ask its function to end."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def close(self) -> None:
        """Let go of it, once it is gone."""
        os.close(self.pid_fd)
        self._socket.close()


def fork_runner(
    window: Window, streams: OutputPair, environment: dict[str, str], own_fds: Iterable[int]
) -> RunnerProcess:
    """Fork a runner.

    Args:
        window: Reset, or new.
        streams: Its standard output and error.
        environment: Its variables, all of them.
        own_fds: Descriptors that must not be open in it.

    Raises:
        OSError: No process can be made now.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    slot_pid = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        near.close()
        far.close()
        raise
    if pid == 0:
        near.close()
        _be_runner(far, window, streams, environment, own_fds=own_fds, parent=slot_pid)
    far.close()
    try:
        pid_fd = os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        near.close()
        raise
    return RunnerProcess(pid, pid_fd, near)


def _be_runner(
    connection: socket.socket,
    window: Window,
    streams: OutputPair,
    environment: dict[str, str],
    *,
    own_fds: Iterable[int],
    parent: int,
) -> NoReturn:
    try:
        die_with_parent(parent)
        os.setsid()  # a function that signals its group must not reach the slot
        become_subreaper()
        name_process("rota-runner")
        for fd in own_fds:
            os.close(fd)
        console = Console(window, read_fds=streams.read_fds, write_fds=streams.write_fds)
        _set_up(environment)
        Runner(connection, window, console).serve()
    except BaseException:  # noqa: BLE001 - nothing of the runner may go on as a second slot
        traceback.print_exc()
    finally:
        os._exit(BROKEN_CODE)


def _set_up(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.argv = [""]
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    faulthandler.enable()  # a crash in native code then says in the output of its task where it was
    gc.enable()
