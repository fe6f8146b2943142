"""A slot: the process under which the attempts of one lane run, one at a time.

The model is one loop around one ``poll``: on the running attempt's pidfd, its two output pipes and the
socket to the agent. The line of orders is worked off without asking anybody; results are held back
for a few milliseconds while the next attempt runs, because each report wakes the agent up.

Invariants: nothing of an attempt is left when its end is reported, no process and no scratch directory, or the slot
says that it must not be used again. If the agent goes, the socket ends, and the slot kills what runs and leaves. A
slow agent blocks nothing: what it has not read yet waits here, up to a limit, over which nothing new starts.

Most programs end at once, so the first milliseconds are waited for with a single system call.
The loop comes after that.
"""

import os
import select
import time
from _socket import socket

from rota.worker.slots.attempt import Attempt, ended_unstarted
from rota.worker.slots.filling import FillingWatch
from rota.worker.slots.frames import Order, Unpacker, pack
from rota.worker.slots.linux import become_subreaper, hold_child_signals, limit_files, name_process, wait_for_child
from rota.worker.slots.memory import MemoryWatch, watch_kernel
from rota.worker.slots.output import OutputStream
from rota.worker.slots.scratch import Scratch
from rota.worker.slots.spawn import LaunchFailed, Spawner
from rota.worker.slots.tree import Reaped, kill_tree

__all__ = ["Slot", "run_slot"]

QUICK_S = 0.003
"""For how long the end of an attempt is waited for without looking at anything else.

It saves opening and closing a pidfd: about 10 µs of the processor a program. Programs that run longer can
afford it, and one that fills its pipe waits no longer than this.
"""

HOLD_S = 0.025
"""How long a result may be held back while the next attempt runs: a quarter of the work that a line holds.

Results go at full multiples of it, which is the same moment in all slots of a machine, so that they meet in one
report of the agent and one commit of the coordinator, which cost some 0.2 and 1.5 ms of processor time.
"""

HELD_MAX = 64
"""Results in one report: enough to share its cost, few enough to keep the agent busy."""

STARTED_AFTER_S = 0.02
"""An attempt that has ended by then says with its end when it started."""

EMPTY_WITHIN_S = 5.0
"""For killing a tree. What is left after that does not obey, and the slot is lost."""

OUTGOING_BYTES_MAX = 4 << 20
"""Waiting for a slow agent: over this nothing new is started."""

RECEIVE_BYTES = 1 << 16

TROUBLE = f"processes of the attempt could not be killed within {EMPTY_WITHIN_S:g} s; its slot is not used again"

STRAY_PERIOD_MS = 1000
"""Between further tries to kill what could not be killed."""


class Slot:
    """Serves one agent until that leaves or says so. Made once a process."""

    def __init__(self, connection: socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._socket_fd = connection.fileno()
        self._unpacker = Unpacker()
        self._line: list[Order] = []
        self._started: list[tuple[object, ...]] = []
        self._ended: list[tuple[object, ...]] = []
        self._output: list[tuple[object, ...]] = []
        self._held_until = 0.0
        self._outgoing = bytearray()
        self._is_leaving = False
        self._is_orphaned = False
        self._scratch_limit_mib: int | None = None
        self._attempt: Attempt | None = None
        self._idle_poll = select.poll()
        self._idle_poll.register(self._socket_fd, select.POLLIN)

    def _set_up(self, output_limit_bytes: int, grace_s: float, base_env: dict[str, str]) -> None:
        self._grace_s = grace_s
        self._out = OutputStream("stdout", output_limit_bytes)
        self._err = OutputStream("stderr", output_limit_bytes)
        self._spawner = Spawner(self._out.write_fd, self._err.write_fd, base_env=base_env)
        # The number that every pidfd gets: the lowest free one, as long as nothing else is opened meanwhile.
        self._pid_fd = os.dup(self._socket_fd)
        os.close(self._pid_fd)
        self._poll = select.poll()
        self._poll.register(self._pid_fd, select.POLLIN)
        self._ready_poll = select.poll()
        for fd in (self._out.read_fd, self._err.read_fd, self._socket_fd):
            self._poll.register(fd, select.POLLIN)
            self._ready_poll.register(fd, select.POLLIN)

    def serve(self) -> None:
        """Run what comes, until the agent is gone, or said to leave and nothing is left to do."""
        while not self._is_orphaned:
            if self._line and len(self._outgoing) < OUTGOING_BYTES_MAX:
                self._run(self._line.pop(0))
            elif self._is_leaving and not self._line and not self._outgoing:
                return
            else:
                self._exchange_when_ready()
        kill_tree(Reaped(0), EMPTY_WITHIN_S)

    # One attempt -------------------------------------------------------------------------

    def _run(self, order: Order) -> None:
        started = time.monotonic()
        watch_kernel(started)
        self._out.begin()
        self._err.begin()
        started_at = time.time()
        scratch = None if order[8] is None else Scratch(order[8], order[9])
        try:
            if scratch is not None:
                scratch.prepare()
            pid = self._spawner.spawn(order[2], order[3], cwd=order[4], stdin=order[5])
        except LaunchFailed as error:
            if scratch is not None:
                scratch.remove()
            self._add_ended(ended_unstarted(order[0], order[1], error.cause, message=str(error)))
            self._exchange_now()
            return
        attempt = Attempt(order, pid, started=started, started_at=started_at, grace_s=self._grace_s)
        if not self._ends_quickly(attempt):
            self._open_pid(pid)
            self._attempt = attempt
            if order[8] is not None and self._scratch_limit_mib is not None:
                attempt.filling = FillingWatch(order[8][0], self._scratch_limit_mib, started=started)
            self._watch(attempt, memory_mib=order[7])
            self._attempt = None
            if attempt.filling is not None:
                attempt.filling.close()
            os.close(self._pid_fd)
        self._finish(attempt, scratch)

    def _ends_quickly(self, attempt: Attempt) -> bool:
        """Wait a moment by the cheapest call there is; say whether the main process has ended."""
        wait_s = QUICK_S if attempt.deadline is None else min(QUICK_S, attempt.deadline - attempt.started)
        for _ in range(2):  # the first signal may be of a child of the attempt before
            if not wait_for_child(wait_s):
                return False
            attempt.reaped.reap()
            if attempt.reaped.main_status is not None:
                return True
        return False

    def _open_pid(self, pid: int) -> None:
        fd = os.pidfd_open(pid)
        if fd != self._pid_fd:
            os.dup2(fd, self._pid_fd, inheritable=False)
            os.close(fd)

    def _watch(self, attempt: Attempt, *, memory_mib: int | None) -> None:
        """Return when the main process has ended, or the tree must be killed."""
        memory = attempt.memory = MemoryWatch(memory_mib, started=attempt.started)
        wait_s = 0.0
        while True:
            events = self._poll.poll(wait_s * 1000)
            now = time.monotonic()
            has_ended = False
            for fd, flags in events:
                if fd == self._pid_fd:
                    has_ended = True
                    self._attempt = None  # a stop that comes with this answer is too late for it
                elif fd == self._socket_fd:
                    self._exchange(flags)
                else:
                    (self._out if fd == self._out.read_fd else self._err).read(now)
            if has_ended or self._is_orphaned or attempt.must_be_killed(now):
                return
            wait_s = self._tend(attempt, memory, now)

    def _tend(self, attempt: Attempt, memory: MemoryWatch, now: float) -> float:
        """Report what is due of an attempt that goes on; return how long nothing more will be."""
        if not attempt.is_reported and now >= attempt.started + STARTED_AFTER_S:
            attempt.is_reported = True
            self._started.append((attempt.task, attempt.number, attempt.started_at))
        for stream in (self._out, self._err):
            self._add_output(attempt, stream, stream.take_due(now))
        if self._started or self._output or (self._ended and now >= self._held_until):
            self._flush()
        due = [memory.next_look, attempt.deadline, attempt.kill_at, self._out.next_due(), self._err.next_due()]
        if attempt.filling is not None:
            due.append(attempt.filling.next_look)
        if self._ended:
            due.append(self._held_until)
        if not attempt.is_reported:
            due.append(attempt.started + STARTED_AFTER_S)
        # Rounded up to the clock of poll, or it would look again and again in the last millisecond.
        return max(min(at for at in due if at is not None) - now, 0.0) + 0.001

    def _finish(self, attempt: Attempt, scratch: Scratch | None) -> None:
        """Leave nothing of the attempt behind, and note its end."""
        reaped = attempt.reaped
        is_empty = reaped.is_empty or reaped.reap() or kill_tree(reaped, EMPTY_WITHIN_S)
        if self._exchange_now() or not is_empty:
            now = time.monotonic()
            for stream in (self._out, self._err):
                if is_empty:
                    stream.drain(now)
                else:  # what can't be killed may write for ever
                    stream.read(now)
        if scratch is not None and attempt.cause is None:
            attempt.message = scratch.last_words(reaped.main_status, self._err)
        if not (self._out.is_small() and self._err.is_small()):
            for stream in (self._out, self._err):
                self._add_output(attempt, stream, stream.take_rest())
        if is_empty:
            ended = attempt.ended(self._out, self._err)
            if scratch is not None:
                ended = scratch.harvested(ended, is_over=True)
                scratch.remove()
            self._add_ended(ended)
            return
        attempt.message = f"{attempt.message}; {TROUBLE}" if attempt.message else TROUBLE
        ended = attempt.ended(self._out, self._err)
        self._ended.append(ended if scratch is None else scratch.harvested(ended, is_over=False))
        self._withdraw()

    def _withdraw(self) -> None:
        """Hand the line back, and do nothing more than trying to get rid of what is left."""
        trouble: str | None = TROUBLE
        while not (self._is_orphaned or self._is_leaving):
            self._ended += [ended_unstarted(order[0], order[1], "returned") for order in self._line]
            self._line.clear()
            # The trouble goes with the end of the attempt: the agent must not give this slot to another lane.
            self._flush(trouble)
            trouble = None
            self._exchange_when_ready(STRAY_PERIOD_MS)
            kill_tree(Reaped(0), 0.0)
        self._is_orphaned = True

    # The agent ---------------------------------------------------------------------------

    def _add_ended(self, ended: tuple[object, ...]) -> None:
        """Note an end; report it now unless the next attempt can share the report."""
        now = time.monotonic()
        if not self._ended:
            self._held_until = (now // HOLD_S + 1) * HOLD_S
        self._ended.append(ended)
        if not self._line or len(self._ended) >= HELD_MAX or now >= self._held_until:
            self._flush()

    def _add_output(self, attempt: Attempt, stream: OutputStream, pieces: list[tuple[int, bytes]]) -> None:
        for offset, data in pieces:
            self._output.append((attempt.task, attempt.number, stream.name, offset, data))

    def _flush(self, trouble: str | None = None) -> None:
        """Hand on all that is noted, as far as the agent takes it without waiting."""
        if self._started or self._ended or self._output or trouble is not None:
            was_waiting = bool(self._outgoing)
            self._outgoing += pack((self._started, self._ended, self._output, trouble))
            self._started, self._ended, self._output = [], [], []
            if not was_waiting:
                self._send()

    def _send(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:  # the agent is gone
            self._is_orphaned = True
        events = select.POLLIN | select.POLLOUT if self._outgoing else select.POLLIN
        for poll in (self._idle_poll, self._ready_poll, self._poll):
            poll.modify(self._socket_fd, events)

    def _exchange_when_ready(self, timeout_ms: int | None = None) -> None:
        self._flush()
        for _, flags in self._idle_poll.poll(timeout_ms):
            self._exchange(flags)

    def _exchange_now(self) -> bool:
        """Take what the agent has said; return whether a pipe has output. One system call if there is nothing."""
        has_output = False
        for fd, flags in self._ready_poll.poll(0):
            if fd == self._socket_fd:
                self._exchange(flags)
            else:
                has_output = True
        return has_output

    def _exchange(self, flags: int) -> None:
        """Send and receive what is possible without waiting."""
        if flags & select.POLLOUT:
            self._send()
        if not flags & ~select.POLLOUT:
            return
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._is_orphaned = True
            return
        for message in self._unpacker.feed(data):
            self._obey(message)

    def _obey(self, message: tuple[object, ...]) -> None:
        match message:
            case ("run", list(orders)):
                self._line += orders
            case ("stop", int(task), int(number), str(cause), float(grace_s)):
                self._stop(task, number, cause=cause, grace_s=grace_s)
            case ("take-back", list(keys)):
                self._take_back(keys)
            case ("setup", int(output_limit_bytes), float(grace_s), dict(base_env)):
                self._set_up(output_limit_bytes, grace_s, base_env)
            case ("scratch-limit", int(limit_mib)):
                self._scratch_limit_mib = limit_mib
            case ("grace", float(grace_s)):
                self._grace_s = grace_s
            case ("exit",):
                self._is_leaving = True
            case _:
                raise AssertionError(f"the agent sent {message!r}")

    def _stop(self, task: int, number: int, *, cause: str, grace_s: float) -> None:
        attempt = self._attempt
        if attempt is not None and (attempt.task, attempt.number) == (task, number):
            attempt.stop(cause, grace_s, now=time.monotonic())
        elif self._remove_from_line(task, number):
            self._ended.append(ended_unstarted(task, number, cause))
            self._flush()

    def _take_back(self, keys: list[tuple[int, int]]) -> None:
        for task, number in keys:
            if self._remove_from_line(task, number):
                self._ended.append(ended_unstarted(task, number, "returned"))
        self._flush()

    def _remove_from_line(self, task: int, number: int) -> bool:
        for index, order in enumerate(self._line):
            if (order[0], order[1]) == (task, number):
                del self._line[index]
                return True
        return False


def run_slot(connection: socket, *, file_limit: int) -> None:
    """Be a slot for the agent at the other end, then return. Attempts inherit the limit of open files."""
    name_process("rota-slot")
    limit_files(file_limit)
    become_subreaper()
    hold_child_signals()
    Slot(connection).serve()
