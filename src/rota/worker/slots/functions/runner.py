"""The runner: a process forked from its slot, in which functions are called, one after another.

The model is a loop: take a chunk of orders from the socket, call one function after the other, append each result to
the ring of the window. For a short call that costs no system call but one: the question whether it has written
anything. The slot is told (the bell, a byte on the socket) unless it watches the ring, and always before this
process waits for more.

Invariants: what a call has left behind is removed before its result is there, as far as it is of processes, output and
`rota.worker.slots.functions.leftovers`.
A call that the slot has taken back is not started (see `rota.worker.slots.functions.window`). A signal raises
`TaskCancelled` only while a function runs. A fork that a function made never gets back into the loop.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from resource import RUSAGE_CHILDREN, getrusage
from struct import Struct

# By name: what a function has put in their place in the module is none of ours.
from time import monotonic, process_time, sleep
from time import time as wall_time
from typing import Final, NoReturn

from rota.functions.context import CurrentGang, CurrentTask, TaskCancelled, provide_current
from rota.functions.failure import describe_failure, sendable, traceback_text
from rota.worker.slots.frames import FunctionOrder, decode_orders, encode
from rota.worker.slots.functions.children import kill_children
from rota.worker.slots.functions.console import Console
from rota.worker.slots.functions.leftovers import Leftovers
from rota.worker.slots.functions.surroundings import surroundings
from rota.worker.slots.functions.values import (
    CallFailed,
    FunctionCache,
    dump_error,
    dump_result,
    load_arguments,
)
from rota.worker.slots.functions.window import CURRENT, ERA, IS_WATCHED, REFUSED, RING_BYTES, STARTED, STOPPED, Window

__all__ = ["CHUNK_HEADER", "Runner"]

CHUNK_HEADER: Final = Struct("<IIQ")
"""Before each chunk of orders: its length in bytes, its era, and the ordinal of its first order."""

QUICK_S: Final = 50e-6
"""A call that took no longer has not started a process (the kernel needs longer for it), and was never off the
processor for long: so its children need not be looked for, nor its processor time be asked for, which is 1.5 µs."""

RECEIVE_BYTES: Final = 1 << 18

RING_PAUSE_S: Final = 0.0005
"""Between looks at a full ring, while the slot is busy."""


_Outcome = tuple[str | None, str | None, bytes, tuple[str, ...]]
"""What of a call goes into its record: cause, message, value and blobs."""


class Runner:
    """Made once a process, in its main thread.

    Args:
        connection: Brings orders; the bell goes the other way.
        window: Shared with the slot.
        console: Standard output and error.
    """

    def __init__(self, connection: socket.socket, window: Window, console: Console) -> None:
        self._socket = connection
        self._window = window
        self._console = console
        self._functions = FunctionCache()
        self._leftovers = Leftovers(self._on_stop)
        self._path = ""
        self._buffer = bytearray()
        self._head = 0
        self._is_rung = True
        self._ordinal = 0
        self._order: FunctionOrder | None = None
        self._task: CurrentTask | None = None
        self._is_inside = False
        self._is_told = False
        self._is_copy = False
        self._is_spent = False
        self._mark_lock = threading.Lock()
        self._wall_offset_s = 0.0
        self._cpu_s = self._cpu_at = self._children_cpu_s = 0.0

    def serve(self) -> NoReturn:
        """Call functions until the slot is gone."""
        provide_current(self._current)
        signal.signal(signal.SIGTERM, self._on_stop)
        os.register_at_fork(after_in_child=self._become_copy)
        while True:
            length, era, first = self._next_header()
            start = CHUNK_HEADER.size
            orders = decode_orders(self._buffer[start : start + length])
            del self._buffer[: start + length]
            self._run_chunk(era, first, orders)

    # Orders --------------------------------------------------------------------------------

    def _next_header(self) -> tuple[int, int, int]:
        """Wait until a whole chunk is there; return its header."""
        buffer = self._buffer
        while True:
            if len(buffer) >= CHUNK_HEADER.size:
                length, era, first = CHUNK_HEADER.unpack_from(buffer)
                if len(buffer) >= CHUNK_HEADER.size + length:
                    return length, era, first
            if not self._is_rung:
                self._ring()
            self._remove_children()
            self._leave_if_worn()
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                os._exit(0)
            buffer += data
            self._wall_offset_s = wall_time() - monotonic()
            self._cpu_s, self._cpu_at = process_time(), monotonic()

    def _run_chunk(self, era: int, ordinal: int, orders: list[FunctionOrder]) -> None:
        """Call the functions of a chunk, until the slot takes back what is left of it."""
        words, times = self._window.words, self._window.times
        for order in orders:
            if words[ERA] != era:
                return
            started = monotonic()
            times[STARTED] = started
            words[CURRENT] = ordinal
            if words[ERA] != era:  # once more: the slot may have looked before we wrote
                words[REFUSED] = ordinal
                self._ring()
                return
            self._ordinal = ordinal
            self._run(order, started)
            ordinal += 1

    # One call ------------------------------------------------------------------------------

    def _run(self, order: FunctionOrder, started: float) -> None:
        """Call a function, leave nothing of it behind, and append its record to the ring."""
        self._task = None
        self._order = order
        if order[2] != self._path:
            self._path = order[2]
            self._leftovers.clear()
        try:
            cause, message, value, blobs = self._outcome(order)
        except TaskCancelled as error:  # it came in the moment in which the function ended
            cause, message, value, blobs = _failure(error)
        self._order = None
        ended = monotonic()
        run_s = ended - started
        if run_s > QUICK_S:
            self._remove_children()
            cpu_s = self._measure(started, ended)
        else:
            cpu_s = run_s
        out = err = b""
        if self._console.has_output():
            out, err = self._console.collect(self._ordinal, self._ring)
        may_have_left_things = run_s > QUICK_S or cause is not None
        if may_have_left_things:
            self._leftovers.clear()
            self._console.restore()
        started_at = self._wall_offset_s + started
        times = started_at, started_at + run_s, run_s, cpu_s
        record = (
            order[0],
            order[1],
            cause,
            None,
            None,
            *times,
            None,
            len(out),
            len(err),
            out,
            err,
            message,
            value,
            blobs,
        )
        self._push(encode(record))
        if may_have_left_things:
            self._leave_if_worn()

    def _outcome(self, order: FunctionOrder) -> _Outcome:
        self._is_told = False
        self._is_inside = True
        function = None
        try:
            extras = order[7]
            function = self._functions.get(order[2])
            args, kwargs = load_arguments(order[3], extras)
            if extras is not None and ("env" in extras or "cwd" in extras):
                with surroundings(extras):
                    envelope, blobs = dump_result(function(*args, **kwargs), extras)
            else:
                envelope, blobs = dump_result(function(*args, **kwargs), extras)
            self._is_inside = False
        except BaseException as error:  # noqa: BLE001 - whatever a function raises is its result
            self._is_inside = False
            if self._is_copy:
                _leave_copy(error)
            # What is missing here, or only half imported, may be well in a new process.
            self._is_spent = function is None or isinstance(error, MemoryError)
            _print_traceback(error)
            return _failure(error)
        if self._is_copy:
            _leave_copy(None)
        return None, None, envelope, blobs

    def _measure(self, started: float, ended: float) -> float:
        """The processor time of a call, with that of its children.

        It was last asked for some calls ago, at ``_cpu_at``; those in between never waited: they used what they took.
        """
        cpu_s = process_time()
        before_s = self._cpu_s + max(started - self._cpu_at, 0.0)
        self._cpu_s, self._cpu_at = cpu_s, ended
        usage = getrusage(RUSAGE_CHILDREN)
        children_cpu_s = usage.ru_utime + usage.ru_stime
        own_s, self._children_cpu_s = children_cpu_s - self._children_cpu_s, children_cpu_s
        return max(cpu_s - before_s, 0.0) + own_s

    def _remove_children(self) -> None:
        if not kill_children():
            os._exit(1)  # the slot tries, too, and says what has happened if it can't

    def _leave_if_worn(self) -> None:
        """The slot starts another, and gives it what is left to do."""
        if self._is_spent or (self._ordinal and self._leftovers.is_worn()):
            os._exit(0)

    # The slot ------------------------------------------------------------------------------

    def _push(self, record: bytes) -> None:
        """Append a record to the ring; tell the slot unless it looks by itself."""
        window = self._window
        assert len(record) <= RING_BYTES
        while not (head := window.write(self._head, record, self._ordinal)):
            self._ring()
            sleep(RING_PAUSE_S)
        self._head = head
        if window.words[IS_WATCHED]:
            self._is_rung = False
        else:
            self._ring()

    def _ring(self) -> None:
        self._is_rung = True
        with suppress(BlockingIOError):  # it has more of these to read than it needs
            self._socket.send(b"!", socket.MSG_DONTWAIT)

    # What a function asks and is told -------------------------------------------------------

    def _current(self) -> CurrentTask | None:
        """The task that runs, made when somebody asks: most functions don't."""
        order = self._order
        if order is None:
            return None
        if self._task is None:
            task_id, queue, worker = order[6]
            self._task = CurrentTask(
                id=task_id,
                attempt=order[1],
                queue=queue,
                worker=worker,
                report=self._report,
                gang=_gang_of(order[7]),
            )
            self._task.is_cancelled = self._is_told
        return self._task

    def _report(self, fraction: float | None, text: str) -> None:
        """Leave a mark for the slot, which looks for the last one from time to time once it knows of one."""
        plain = None if fraction is None else float(fraction)  # numpy's numbers travel as bytes
        with self._mark_lock:  # functions have threads
            if not self._is_copy and self._window.write_mark(self._ordinal, plain, sendable(text)):
                self._ring()

    def _on_stop(self, *_: object) -> None:
        """Tell the function, once, that it is to end.

        A service manager that signals every process of the service means the agent. When that one leaves, so do we.
        """
        if self._is_inside and not self._is_told and self._window.words[STOPPED] == self._ordinal:
            self._is_told = True
            if self._task is not None:
                self._task.is_cancelled = True
            raise TaskCancelled("the task is to end")

    def _become_copy(self) -> None:
        """A function has forked: the child may run its part of the function, and nothing of ours."""
        self._is_copy = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _failure(error: BaseException) -> _Outcome:
    """An exception as the user sees it: what is ours is a note on theirs."""
    if not isinstance(error, CallFailed):
        return "error", describe_failure(error), dump_error(error), ()
    shown = error.__cause__
    if shown is None:
        shown = ValueError(str(error))
    elif str(shown) != str(error):
        shown.add_note(str(error))
    return error.word, str(error)[:1000], dump_error(shown), ()


def _print_traceback(error: BaseException) -> None:
    """Leave it in the task's output, as any program does: whoever looks at a failure next morning has no future to ask.

    What is ours, a refused argument say, has nothing of theirs to show, and who cancelled it knows why it ended.
    """
    if isinstance(error, CallFailed | TaskCancelled):
        return
    with suppress(Exception):  # the function may have closed the stream, or put something of its own there
        sys.stderr.write(traceback_text(error))
        sys.stderr.flush()


def _leave_copy(error: BaseException | None) -> NoReturn:
    """End a process that a function forked and that came to the end of that function."""
    if error is not None and not isinstance(error, SystemExit):
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if isinstance(error, SystemExit):
        os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
    os._exit(0 if error is None else 1)


def _gang_of(extras: dict[str, object] | None) -> CurrentGang | None:
    told = extras.get("gang") if extras else None
    return CurrentGang(*told) if isinstance(told, tuple) else None
