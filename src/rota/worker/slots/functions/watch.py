"""A call that is looked at by the slot: it runs long, is to be stopped, writes much, or its runner has died.

Most calls end before anybody looks, and their records go to the agent as the runner made them. The record of a
call that is watched is completed here: with the output that the slot has read, its peak of memory, and the cause if
something else than the function ended it. As for programs, who ends a call first names the cause.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final

from rota.worker.slots.frames import FunctionOrder
from rota.worker.slots.functions.output_pair import OutputPair
from rota.worker.slots.linux import SIGKILL
from rota.worker.slots.memory import MemoryWatch, kernel_killed_for_memory

__all__ = ["REPORT_AFTER_S", "WatchedCall"]

REPORT_AFTER_S: Final = 0.02
"""A call that has ended by then says with its end when it started."""

Ended = tuple[object, ...]


class WatchedCall:
    """A call that has started. ``deadline`` and ``kill_at`` are ``None`` while nothing is to end it."""

    __slots__ = (
        "cause",
        "deadline",
        "grace_s",
        "is_reported",
        "kill_at",
        "mark_version",
        "marks_due",
        "memory",
        "memory_mib",
        "message",
        "number",
        "ordinal",
        "started",
        "started_at",
        "task",
        "timeout_s",
    )

    def __init__(self, ordinal: int, order: FunctionOrder, *, started: float, grace_s: float) -> None:
        self.ordinal = ordinal
        self.task, self.number = order[0], order[1]
        self.timeout_s, self.memory_mib = order[4], order[5]
        self.started = started
        self.started_at = time.time() - (time.monotonic() - started)
        self.deadline = None if self.timeout_s is None else started + self.timeout_s
        self.grace_s = grace_s
        self.kill_at: float | None = None
        self.cause: str | None = None
        self.message: str | None = None
        self.memory = MemoryWatch(self.memory_mib, started=started)
        self.is_reported = False
        self.mark_version = 0
        self.marks_due: float | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Task and attempt."""
        return self.task, self.number

    def stop(self, cause: str, grace_s: float, *, now: float, message: str | None = None) -> bool:
        """Note that the call is to end, and by when; return whether the function must be told: the first time.

        A second stop can only shorten the grace.
        """
        is_first = self.cause is None
        if self.cause is None:
            self.cause = cause
            self.message = message
        kill_at = now + grace_s
        if self.kill_at is None or kill_at < self.kill_at:
            self.kill_at = kill_at
        return is_first

    def is_over_time(self, now: float) -> bool:
        """Whether its time-out has passed; said once."""
        if self.deadline is None or now < self.deadline:
            return False
        self.deadline = None
        return True

    def next_due(self) -> float:
        """When to look again, on the steady clock."""
        due = self.memory.next_look
        for at in (self.deadline, self.kill_at, self.marks_due):
            if at is not None and at < due:
                due = at
        if not self.is_reported:
            due = min(due, self.started + REPORT_AFTER_S)
        return due

    def ended(self, record: Ended, streams: OutputPair) -> Ended:
        """The fields of ``Ended`` of a call that came to its end, made of the runner's."""
        ended = list(record)
        ended[9] = self.memory.peak_kib or None
        ended[10:14] = streams.fields()
        if self.cause is not None:
            if ended[2] is None:  # it returned all the same, and nobody is to see that
                ended[15], ended[16] = b"", ()
            ended[2], ended[14] = self.cause, self.message
        return tuple(ended)

    def died(self, status: int | None, streams: OutputPair) -> Ended:
        """The fields of ``Ended`` of a call whose runner has ended, with this wait status."""
        code = None if status is None else os.waitstatus_to_exitcode(status)
        exit_code, number = (code, None) if code is None or code >= 0 else (None, -code)
        if self.cause is None:
            self.cause, self.message = _find_cause(exit_code, number)
        run_s = time.monotonic() - self.started
        return (
            self.task,
            self.number,
            self.cause,
            exit_code,
            number,
            self.started_at,
            self.started_at + run_s,
            run_s,
            None,
            self.memory.peak_kib or None,
            *streams.fields(),
            self.message,
        )


def _find_cause(exit_code: int | None, number: int | None) -> tuple[str, str]:
    if number == SIGKILL and kernel_killed_for_memory():
        return "oom", "killed by the kernel: the machine, or the container of the worker, was out of memory"
    if number is not None:
        return "signal", f"its process was ended by {_name_of(number)} while the function ran"
    if exit_code is not None:
        return "exit", f"its process ended with exit code {exit_code} before the function returned"
    return "agent-error", "nobody knows how its process ended"


def _name_of(number: int) -> str:
    """``SIGSEGV (Segmentation fault)``."""
    try:
        return f"{signal.Signals(number).name} ({signal.strsignal(number)})"
    except ValueError:
        return f"signal {number}"
