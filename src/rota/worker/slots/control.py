"""The agent's end of the keeper: started, asked for slots, and started again if it dies.

A request waits here while there is no keeper. Keepers are counted: the *reign* of a keeper tells the
slots that it made, and can speak about, from those of an earlier one.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

import rota
from rota.worker.slots.frames import decode, encode

__all__ = ["KeeperControl", "KeeperEvents", "KeeperFailed", "Program"]

START_TIMEOUT_S: Final = 20.0
"""For an interpreter to start, on a machine that is busy."""

RESTART_PAUSE_S: Final = 1.0
"""Between two keepers: one that dies at once, again and again, must not keep a core busy."""

RESEND_PAUSE_S: Final = 0.05
"""After the system had too many descriptors on their way at once: for the keeper to take some."""

LEAVE_TIMEOUT_S: Final = 20.0
"""For slots and keeper to kill what runs and leave: more than they give themselves."""

PACKET_BYTES_MAX: Final = 4096

Program = Literal["process", "function"]
"""What runs in the slots of a keeper."""

_PROGRAM: Final = "import sys; sys.path.append(sys.argv[1]); from rota.worker.slots.keeper import main; main()"
_FUNCTION_PROGRAM: Final = (
    "import sys; del sys.path[0]; sys.path.append(sys.argv[1]); "
    "from rota.worker.slots.functions.keeper import main; main()"
)
"""Without the working directory in front: no file of a user's takes the place of a module of ours, or of Python's."""


class KeeperFailed(Exception):
    """No keeper can be started, so this worker can't run anything."""


class KeeperEvents(Protocol):
    """Who is told what becomes of slots."""

    def on_slot_forked(self, number: int) -> None:
        """Hear that the slot exists."""
        ...

    def on_slot_gone(self, number: int, message: str, *, is_empty: bool) -> None:
        """Hear that the slot is gone or never was, and whether all that ran under it is gone, too."""
        ...

    def on_keeper_lost(self) -> None:
        """Hear that nobody will say any more what becomes of the slots made so far."""
        ...


class KeeperControl:
    """One keeper at a time.

    Args:
        events: Who is told what becomes of slots.
        environment: Of the keeper, and so of its slots.
        file_limit: How many files an attempt may open.
        program: What runs in the slots.
        interpreter: The Python to start, if not the one that runs this.
    """

    def __init__(
        self,
        events: KeeperEvents,
        *,
        environment: Mapping[str, str],
        file_limit: int,
        program: Program = "process",
        interpreter: str | None = None,
    ) -> None:
        self.reign = 0
        self._program = program
        self._interpreter = interpreter or sys.executable
        self._file_limit = file_limit
        self._events = events
        self._environment = dict(environment)
        self._requests: deque[tuple[int, socket.socket]] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._is_closing = False

    async def start(self) -> None:
        """Start a keeper and wait until it can fork.

        Raises:
            KeeperFailed: It ended at once, or did not get ready.
        """
        self._ready = asyncio.get_running_loop().create_future()
        self._launch()
        try:
            await asyncio.wait_for(self._ready, START_TIMEOUT_S)
        except TimeoutError:
            raise KeeperFailed(f"the keeper of the slots was not ready after {START_TIMEOUT_S:g} s") from None

    def fork(self, number: int, connection: socket.socket) -> None:
        """Ask for a slot that serves ``connection``, which is passed on and closed."""
        self._requests.append((number, connection))
        self._send_requests()

    async def close(self) -> None:
        """Let the keeper leave, and wait until it has."""
        self._is_closing = True
        while self._requests:
            self._requests.popleft()[1].close()
        self._disconnect()
        process = self._process
        if process is None:
            return
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.run_in_executor(None, process.wait, LEAVE_TIMEOUT_S), None)
        except subprocess.TimeoutExpired:
            process.kill()
            await loop.run_in_executor(None, process.wait)

    def _launch(self) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.setblocking(False)
        source_root = str(Path(rota.__file__).parents[1])
        try:
            self._process = subprocess.Popen(
                [self._interpreter, *self._options(), source_root, *self._numbers(far)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=self._environment,
                pass_fds=[far.fileno()],
                start_new_session=True,
            )
        except OSError:
            near.close()
            raise
        finally:
            far.close()
        self._socket = near
        asyncio.get_running_loop().add_reader(near.fileno(), self._receive)
        self._send_requests()

    def _options(self) -> list[str]:
        """Programs' slots are isolated (-I) and without site-packages (-S): less memory, and no user's settings.

        Functions import what the user has.
        """
        if self._program == "function":
            return ["-X", "utf8", "-c", _FUNCTION_PROGRAM]
        return ["-I", "-S", "-X", "utf8", "-c", _PROGRAM]

    def _numbers(self, far: socket.socket) -> tuple[str, str]:
        return str(self._file_limit), str(far.fileno())

    def _send_requests(self) -> None:
        if self._socket is None:
            return
        try:
            while self._requests:
                number, connection = self._requests[0]
                message = encode((number,))
                socket.send_fds(self._socket, [message], [connection.fileno()])
                self._requests.popleft()
                connection.close()
        except BlockingIOError:
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._send_requests)
            return
        except OSError as error:
            # Else it has just died: reading says so, and the next one gets the request.
            if error.errno == errno.ETOOMANYREFS:
                asyncio.get_running_loop().call_later(RESEND_PAUSE_S, self._send_requests)
        asyncio.get_running_loop().remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            packet = self._socket.recv(PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if packet:
            self._hear(decode(packet))
        else:
            self._lost()

    def _hear(self, message: tuple[object, ...]) -> None:
        match message:
            case ("ready",):
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(None)
            case ("forked", int(number), int()):
                self._events.on_slot_forked(number)
            case ("refused", int(number), str(text)):
                self._events.on_slot_gone(number, text, is_empty=True)
            case ("gone", int(number), str(text), bool(is_empty)):
                self._events.on_slot_gone(number, text, is_empty=is_empty)
            case _:
                raise AssertionError(f"the keeper sent {message!r}")

    def _lost(self) -> None:
        """Start the next keeper, unless the first never got ready: then say so."""
        self._disconnect()
        self.reign += 1
        assert self._process is not None
        self._process.wait()  # its socket has ended, so it has, too: this only takes its status
        self._events.on_keeper_lost()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(
                KeeperFailed(f"the keeper of the slots ended with code {self._process.returncode} before it was ready")
            )
            return
        asyncio.get_running_loop().call_later(RESTART_PAUSE_S, self._relaunch)

    def _relaunch(self) -> None:
        if self._is_closing:
            return
        try:
            self._launch()
        except OSError:  # no memory or no process just now: requests wait on
            asyncio.get_running_loop().call_later(RESTART_PAUSE_S, self._relaunch)

    def _disconnect(self) -> None:
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
