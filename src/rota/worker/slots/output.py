"""One output stream of a slot: a pipe that all its attempts write to in turn, and what is kept of it.

The pipe lives as long as the slot, so an attempt costs none. Of each attempt the first half
of the limit is kept and handed on as it comes; of the rest, the last half is kept in a rolling tail
and handed on at the end, at its true offset, so that the gap shows. A flood is read and counted, and
takes no more memory than the limit.

Output up to `INLINE_BYTES_MAX` is also kept whole, to travel with the result.
"""

import os

__all__ = ["CHUNK_BYTES_MAX", "HOLD_S", "INLINE_BYTES_MAX", "OutputStream"]

INLINE_BYTES_MAX = 4096
"""Of each stream, in all: up to here output travels with the result."""

CHUNK_BYTES_MAX = 65536
"""Of one piece: a frame on the channel to the coordinator stays small."""

HOLD_S = 0.5
"""How long output waits for more before it is handed on: what somebody who follows the log waits."""

READ_BYTES = 65536
"""The size of a pipe: one read empties it."""


class OutputStream:
    """Reads what the attempt writes, and keeps as much as is allowed. ``count`` is all that was written."""

    __slots__ = (
        "_half",
        "_inline",
        "_sent",
        "_tail",
        "_unsent",
        "_unsent_since",
        "count",
        "name",
        "read_fd",
        "write_fd",
    )

    def __init__(self, name: str, limit_bytes: int) -> None:
        self.name = name
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self._half = limit_bytes // 2
        self.count = 0
        self._forget()

    def begin(self) -> None:
        """Get ready for the next attempt."""
        if self.count:
            self._forget()
        # The description of the pipe is shared with all tasks of this slot: one that made
        # its output non-blocking (as some runtimes do) must not do so to the next.
        if not os.get_blocking(self.write_fd):
            os.set_blocking(self.write_fd, True)

    def _forget(self) -> None:
        self.count = 0
        self._inline = b""
        self._sent = 0
        self._unsent = bytearray()
        self._unsent_since = 0.0
        self._tail = bytearray()

    def read(self, now: float) -> int:
        """Read once, without waiting; return how many bytes came."""
        data = self.receive()
        if data:
            self.keep(data, now)
        return len(data)

    def receive(self) -> bytes:
        """Read once, without waiting, and keep nothing: for who must first find out whose output it is."""
        try:
            return os.read(self.read_fd, READ_BYTES)
        except BlockingIOError:
            return b""

    def keep(self, data: bytes, now: float) -> None:
        """Take in what the attempt has written."""
        if self.count < INLINE_BYTES_MAX:
            self._inline += data[: INLINE_BYTES_MAX - self.count]
        room = self._half - self.count
        self.count += len(data)
        if room > 0:
            if not self._unsent:
                self._unsent_since = now
            self._unsent += data[:room]
        if len(data) > room:
            self._keep_tail(data[max(room, 0) :])

    def drain(self, now: float) -> None:
        """Read until nothing is left. Only when nobody writes any more, or this may not end."""
        while self.read(now):
            pass

    def next_due(self) -> float | None:
        """When `take_due` will have something, on the steady clock; ``None`` if not before more comes."""
        if not self._unsent:
            return None
        return self._unsent_since if len(self._unsent) >= CHUNK_BYTES_MAX else self._unsent_since + HOLD_S

    def take_due(self, now: float) -> list[tuple[int, bytes]]:
        """Take what has waited long enough, or is enough, to be handed on: (offset, bytes)."""
        due_at = self.next_due()
        return self._take_unsent() if due_at is not None and due_at <= now else []

    def take_rest(self) -> list[tuple[int, bytes]]:
        """Take, at the end, all that was kept and not handed on yet, the tail last."""
        tail = bytes(self._tail[-self._half :])
        return self._take_unsent() + _pieces(self.count - len(tail), tail)

    def ending(self) -> bytes:
        """The end of what was written, as far as it is still here: before the rest is taken."""
        return self._inline if self.is_small() else bytes(self._unsent + self._tail)

    def is_small(self) -> bool:
        """Whether `inline` is all there was."""
        return self.count <= INLINE_BYTES_MAX

    def inline(self) -> bytes:
        """The first `INLINE_BYTES_MAX` bytes."""
        return self._inline

    def _keep_tail(self, data: bytes) -> None:
        self._tail += data
        # Trimmed only when twice too long: each byte is then moved once at most, whatever the pieces' size.
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    def _take_unsent(self) -> list[tuple[int, bytes]]:
        pieces = _pieces(self._sent, bytes(self._unsent))
        self._sent += len(self._unsent)
        self._unsent.clear()
        return pieces


def _pieces(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    return [(offset + at, data[at : at + CHUNK_BYTES_MAX]) for at in range(0, len(data), CHUNK_BYTES_MAX)]
