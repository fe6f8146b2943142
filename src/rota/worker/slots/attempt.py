"""One attempt while it runs: its process, what ends it early, what it used, and how it ended.

The causes are words of ``rota.core.model.Cause``; a slot does not import that module for its
size. Who ends an attempt first names the cause: a time-out that came before a cancel stays a time-out.
Times are of the steady clock but for ``started_at``, which is for the record.
"""

import os
import time
from resource import RUSAGE_SELF, getrusage

from rota.worker.slots.filling import FillingWatch
from rota.worker.slots.frames import Order
from rota.worker.slots.linux import SIGKILL, SIGTERM
from rota.worker.slots.memory import MemoryWatch, kernel_killed_for_memory
from rota.worker.slots.output import OutputStream
from rota.worker.slots.tree import Reaped

__all__ = ["Attempt", "ended_unstarted"]


PEAK_MARGIN_KIB = 1024
"""The kernel's counts of resident pages are approximate: each processor holds some back."""


class _OwnPeak:
    """The slot's own peak when it was last asked for. It only grows, so it is asked for only when it matters."""

    kib = 0


class Attempt:
    """A started attempt. ``deadline`` and ``kill_at`` are ``None`` while nothing is to end it."""

    __slots__ = (
        "cause",
        "deadline",
        "filling",
        "grace_s",
        "is_reported",
        "kill_at",
        "memory",
        "message",
        "number",
        "reaped",
        "started",
        "started_at",
        "task",
    )

    def __init__(self, order: Order, pid: int, *, started: float, started_at: float, grace_s: float) -> None:
        self.task, self.number = order[0], order[1]
        timeout_s = order[6]
        self.reaped = Reaped(pid)
        self.started = started
        self.started_at = started_at
        self.deadline = None if timeout_s is None else started + timeout_s
        self.grace_s = grace_s
        self.kill_at: float | None = None
        self.cause: str | None = None
        self.message: str | None = None
        self.is_reported = False
        self.memory: MemoryWatch | None = None
        self.filling: FillingWatch | None = None

    def stop(self, cause: str, grace_s: float, *, now: float) -> None:
        """Ask the process group to end, and set the time at which the whole tree is killed.

        A second stop can only shorten the grace.
        """
        if self.cause is None:
            self.cause = cause
            if self.reaped.main_status is None:  # else its pid may be another's by now
                _signal_group(self.reaped.main_pid)
        kill_at = now + grace_s
        if self.kill_at is None or kill_at < self.kill_at:
            self.kill_at = kill_at

    def must_be_killed(self, now: float) -> bool:
        """Look at the clock, the memory and the scratch directory: whether the tree is to be killed now."""
        if self.deadline is not None and now >= self.deadline:
            self.message = f"ran longer than its timeout of {self.deadline - self.started:g} s"
            self.deadline = None
            self.stop("timeout", self.grace_s, now=now)
        if self.kill_at is not None and now >= self.kill_at:
            return True
        if self.memory is not None and self.cause != "oom" and (message := self.memory.look(now)) is not None:
            self.cause = "oom"
            self.message = message
            return True
        if self.filling is not None and self.cause is None and (message := self.filling.look(now)) is not None:
            self.cause = "error"
            self.message = message
            return True
        return False

    def ended(self, out: OutputStream, err: OutputStream) -> tuple[object, ...]:
        """The fields of ``Ended``, once its main process is reaped and its output read."""
        run_s = time.monotonic() - self.started
        exit_code, number = _exit_and_signal(self.reaped.main_status)
        self._find_cause(exit_code, number)
        is_small = out.is_small() and err.is_small()
        return (
            self.task,
            self.number,
            self.cause,
            exit_code,
            number,
            self.started_at,
            self.started_at + run_s,
            run_s,
            self.reaped.cpu_s,
            self._peak_kib(),
            out.count,
            err.count,
            out.inline() if is_small else b"",
            err.inline() if is_small else b"",
            self.message,
        )

    def _peak_kib(self) -> int | None:
        """The peak that was sampled or that the kernel saw, whichever is higher; ``None`` if neither says anything.

        Exec hands the slot's own peak on to what it starts, so only a higher one is the task's.
        """
        sampled_kib = self.memory.peak_kib if self.memory is not None else 0
        seen_kib = self.reaped.maxrss_kib
        if seen_kib > sampled_kib and seen_kib > _OwnPeak.kib + PEAK_MARGIN_KIB:
            _OwnPeak.kib = getrusage(RUSAGE_SELF).ru_maxrss
            if seen_kib > _OwnPeak.kib + PEAK_MARGIN_KIB:
                return seen_kib
        return sampled_kib or None

    def _find_cause(self, exit_code: int | None, number: int | None) -> None:
        if self.cause is not None:
            return
        if number == SIGKILL and kernel_killed_for_memory():
            self.cause = "oom"
            self.message = "killed by the kernel: the machine, or the container of the worker, was out of memory"
        elif number is not None:
            self.cause = "signal"
        elif exit_code is None:
            self.cause = "agent-error"
        elif exit_code != 0:
            self.cause = "exit"


def ended_unstarted(task: int, number: int, cause: str, *, message: str | None = None) -> tuple[object, ...]:
    """The fields of ``Ended`` for an attempt that never ran."""
    return (task, number, cause, None, None, None, time.time(), 0.0, None, None, 0, 0, b"", b"", message)


def _exit_and_signal(status: int | None) -> tuple[int | None, int | None]:
    if status is None:
        return None, None
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (None, -code)


def _signal_group(pid: int) -> None:
    """SIGTERM to the session that the attempt was started with; what left that is killed later."""
    try:
        os.killpg(pid, SIGTERM)
    except (ProcessLookupError, PermissionError):
        return
