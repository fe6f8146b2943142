"""The runner's end of its output: the streams of Python and of C, and whose output is in the pipes.

Both pipes live as long as the slot; all calls write to them in turn. Whose output it is, is told exactly, and without
a word between the two processes, by who reads and when:

- At the end of a call the runner flushes, and asks by one system call whether there is anything in the pipes. If so
  it reads it, and sends it with the result. Nothing of a call is left when the next one starts.
- The slot reads only while it watches a call (`rota.worker.slots.functions.slot`). It sets `IS_READING`, reads, and
  looks then which call runs (`CURRENT`). The runner does not leave a call while `IS_READING` is set: what the slot has
  read before the pipe was found empty, it read with the word set, so either the runner sees that, or the slot has
  looked already.

What threads write that a call has left behind counts as output of the call that runs then.
"""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import select
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rota.worker.slots.functions.window import IS_READING, OUTPUT_TAKEN, OUTPUT_WAITS, Window
from rota.worker.slots.output import INLINE_BYTES_MAX

__all__ = ["Console"]

READ_BYTES: Final = 65536

PAUSE_S: Final = 0.00005
"""Between looks at a word of the slot's, which it changes at once."""

LINE_BUFFERED: Final = 1
"""``_IOLBF`` of C."""


class Console:
    """Standard output and error of the runner.

    Args:
        window: Shared with the slot.
        read_fds: The ends of the pipes from which the slot reads.
        write_fds: The other ends, which become descriptors 1 and 2.
    """

    def __init__(self, window: Window, *, read_fds: tuple[int, int], write_fds: tuple[int, int]) -> None:
        self._words = window.words
        self._out_fd, self._err_fd = read_fds
        self._write_fds = write_fds
        self.restore()
        poll = select.poll()
        for fd in read_fds:
            poll.register(fd, select.POLLIN)
        self._poll = poll.poll
        self._open()
        _buffer_lines_of_c()

    def restore(self) -> None:
        """Have descriptors 1 and 2 be the pipes, and block, whatever a function has made of them: 1 µs."""
        for fd, write_fd in enumerate(self._write_fds, start=1):
            os.dup2(write_fd, fd)
            if not os.get_blocking(write_fd):
                os.set_blocking(write_fd, True)

    def has_output(self) -> bool:
        """Whether this call has written anything that is not read yet, or not yet known to be its own."""
        if sys.stdout is not self._out or sys.stderr is not self._err:
            sys.stdout, sys.stderr = self._out, self._err
        try:
            self._out.flush()
            self._err.flush()
        except (OSError, ValueError):  # closed, as some functions do
            self._open()
        return bool(self._poll(0)) or bool(self._words[IS_READING])

    def collect(self, ordinal: int, ring: Callable[[], None]) -> tuple[bytes, bytes]:
        """Return what is left of a call's output, once nobody writes any more; have the slot take it if it is much."""
        if max(_pending(self._out_fd), _pending(self._err_fd)) > INLINE_BYTES_MAX:
            self._words[OUTPUT_WAITS] = ordinal
            ring()
            while self._words[OUTPUT_TAKEN] != ordinal:
                time.sleep(PAUSE_S)
            return b"", b""
        out, err = _read(self._out_fd), _read(self._err_fd)
        while self._words[IS_READING]:
            time.sleep(PAUSE_S)
        return out, err

    def _open(self) -> None:
        """Make the streams as Python does, but hand on each line as it is written: somebody may follow the log."""
        self._out = _text_stream(1, errors="surrogateescape")
        self._err = _text_stream(2, errors="backslashreplace")
        sys.stdout = sys.__stdout__ = self._out  # type: ignore[misc] # final for all but those who start Python
        sys.stderr = sys.__stderr__ = self._err  # type: ignore[misc] # as above


def _text_stream(fd: int, *, errors: str) -> io.TextIOWrapper:
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors=errors, line_buffering=True)


def _pending(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return b""


def _buffer_lines_of_c() -> None:
    """Have ``printf`` hand on whole lines: what stays in its buffer would be lost, or another call's."""
    with suppress(ValueError, AttributeError):  # a C library that names its streams otherwise
        library = ctypes.CDLL(None)
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, LINE_BUFFERED, 0)
