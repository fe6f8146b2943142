"""Both output streams of a slot of functions, and what is kept of them for the call that is watched."""

from __future__ import annotations

from typing import Final

from rota.worker.slots.output import OutputStream

__all__ = ["OutputPair", "Pieces"]

DRAIN_READS_MAX: Final = 64
"""Of 64 KiB, from a stream that threads of a function still write to."""

Pieces = list[tuple[str, list[tuple[int, bytes]]]]
"""By the name of the stream: offsets and bytes."""


class OutputPair:
    """Standard output and error. ``read_fds`` and ``write_fds`` are in this order."""

    def __init__(self, limit_bytes: int) -> None:
        self._out = OutputStream("stdout", limit_bytes)
        self._err = OutputStream("stderr", limit_bytes)
        self._both = (self._out, self._err)
        self.read_fds = self._out.read_fd, self._err.read_fd
        self.write_fds = self._out.write_fd, self._err.write_fd

    def by_fd(self, read_fd: int) -> OutputStream:
        """The stream that is read from this descriptor."""
        return self._out if read_fd == self._out.read_fd else self._err

    def begin(self) -> None:
        """Get ready for the next call."""
        for stream in self._both:
            stream.begin()

    def keep(self, out: bytes, err: bytes, now: float) -> None:
        """Take in what the runner has read."""
        self._out.keep(out, now)
        self._err.keep(err, now)

    def drain(self, now: float) -> None:
        """Read what is there, while the runner waits or is gone."""
        for stream in self._both:
            for _ in range(DRAIN_READS_MAX):
                if not stream.read(now):
                    break

    def next_due(self) -> float | None:
        """When `take_due` will have something."""
        return min((at for stream in self._both if (at := stream.next_due()) is not None), default=None)

    def take_due(self, now: float) -> Pieces:
        """Take what has waited long enough to be handed on."""
        return [(stream.name, pieces) for stream in self._both if (pieces := stream.take_due(now))]

    def take_rest(self) -> Pieces:
        """Take, at the end, what does not travel with it."""
        return [] if self._is_small() else [(stream.name, stream.take_rest()) for stream in self._both]

    def fields(self) -> tuple[int, int, bytes, bytes]:
        """What an ``Ended`` says of output: how much there was, and all of it if it was little."""
        is_small = self._is_small()
        out, err = self._both
        return out.count, err.count, out.inline() if is_small else b"", err.inline() if is_small else b""

    def _is_small(self) -> bool:
        return self._out.is_small() and self._err.is_small()
