"""The agent's end of one slot: frames out, messages in, never waiting for the slot."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import structlog

from rota.worker.slots.frames import Unpacker, pack

__all__ = ["SlotLink"]

RECEIVE_BYTES: Final = 1 << 18

log = structlog.get_logger(__name__)


class SlotLink:
    """A connection to a slot that lives, or is about to be made.

    ``number`` names the slot to the keeper of this ``reign``; ``is_forked`` once that one said so. ``devices`` are
    the GPUs that its tasks were given, ``memory_mib`` is their limit.
    """

    def __init__(
        self,
        number: int,
        reign: int,
        *,
        on_message: Callable[[SlotLink, tuple[object, ...]], None],
        on_end: Callable[[SlotLink], None],
    ) -> None:
        self.number = number
        self.reign = reign
        self.is_forked = False
        self.idle_since = 0.0
        self.devices: tuple[int, ...] = ()
        self.memory_mib: int | None = None
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._unpacker = Unpacker()
        self._outgoing = bytearray()
        self._socket, self._far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._receive)

    @property
    def is_closed(self) -> bool:
        """Whether its last word is read, or we hung up."""
        return self._socket.fileno() < 0

    def take_far_end(self) -> socket.socket:
        """The slot's end of the socket, once: whoever takes it passes it on and closes it."""
        return self._far_end

    def send(self, *messages: tuple[object, ...]) -> None:
        """Send, now or as soon as the slot reads."""
        if self.is_closed:
            return
        frames = b"".join(map(pack, messages))
        if self._outgoing:
            self._outgoing += frames
            return
        self._outgoing += frames
        self._send_more()
        if self._outgoing:
            self._loop.add_writer(self._socket.fileno(), self._send_more)

    def close(self) -> None:
        """Let go of the slot: it kills what runs, and leaves. Safe to call twice."""
        if not self.is_closed:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()

    def _send_more(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError:  # the slot is gone: reading says so, after what it still had to say
            self._outgoing.clear()
        self._loop.remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            self._on_end(self)
            return
        try:
            for message in self._unpacker.feed(data):
                self._on_message(self, message)
        except Exception:  # memory that user code has spoiled, say: a slot that can't be understood is none
            log.exception("slot_garbled", slot=self.number)
            self.close()
            self._on_end(self)
