"""The slot's end of its socket to the agent: messages in, reports out, never waiting for the agent."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from typing import Final

from rota.worker.slots.frames import Unpacker, encode, pack_report

__all__ = ["AgentSocket"]

OUTGOING_BYTES_MAX: Final = 4 << 20
"""Waiting for a slow agent: over this nothing new is started."""

RECEIVE_BYTES: Final = 1 << 18

Fields = tuple[object, ...]


class AgentSocket:
    """Gathers what is to be reported, and sends it at `flush`, as far as the agent takes it."""

    def __init__(self, connection: socket.socket) -> None:
        self.fd = connection.fileno()
        self.is_gone = False
        """Whether the agent has hung up."""
        self._socket = connection
        self._socket.setblocking(False)
        self._unpacker = Unpacker()
        self._outgoing = bytearray()
        self._started: list[Fields] = []
        self._ended: list[bytes] = []
        self._ended_count = 0
        self._output: list[Fields] = []
        self._marks: list[Fields] = []

    @property
    def has_outgoing(self) -> bool:
        """Whether the agent has not taken all that was reported."""
        return bool(self._outgoing)

    @property
    def is_full(self) -> bool:
        """Whether the agent is so slow that nothing new should be started."""
        return len(self._outgoing) >= OUTGOING_BYTES_MAX

    def add_started(self, started: Fields) -> None:
        """Note the fields of a ``Started``."""
        self._started.append(started)

    def add_ended(self, ended: Fields) -> None:
        """Note the fields of an ``Ended``."""
        self._ended.append(encode(ended))
        self._ended_count += 1

    def add_records(self, records: bytes, count: int) -> None:
        """Note so many ``Ended``, encoded already."""
        self._ended.append(records)
        self._ended_count += count

    def add_output(self, key: tuple[int, int], stream: str, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Note output of an attempt: offsets and bytes."""
        for offset, data in pieces:
            self._output.append((*key, stream, offset, data))

    def add_mark(self, mark: Fields) -> None:
        """Note the fields of a ``Mark``."""
        self._marks.append(mark)

    def flush(self, trouble: str | None = None) -> None:
        """Report all that is noted."""
        if not (self._started or self._ended or self._output or self._marks or trouble is not None):
            return
        was_waiting = bool(self._outgoing)
        self._outgoing += pack_report(
            self._started,
            self._ended,
            self._output,
            ended_count=self._ended_count,
            trouble=trouble,
            marks=self._marks,
        )
        self._started, self._ended, self._output, self._marks = [], [], [], []
        self._ended_count = 0
        if not was_waiting:
            self._send()

    def exchange(self, flags: int) -> list[bytearray]:
        """Send and receive what ``poll`` says is possible; return the messages that have come, encoded."""
        if flags & select.POLLOUT:
            self._send()
        if not flags & ~select.POLLOUT:
            return []
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.is_gone = True
            return []
        return self._unpacker.bodies(data)

    def _send(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError:
            self.is_gone = True
