"""What the core waits for, on two clocks.

Durations run on the steady clock, which never jumps. Calendar times (``start_at``, ``deadline``)
follow the wall clock, whatever it does. What is no longer wanted is recognised when it fires; only
when there is much of it is it thrown out before.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from msgspec import Struct

from rota.core.model import LaneId, Shape, TaskSeq, WorkerId

__all__ = [
    "CALENDAR_LOOK_S",
    "CalendarDue",
    "DeadlineDue",
    "GangImpossible",
    "Impossible",
    "LineOverdue",
    "ReservationDue",
    "TaskReady",
    "Timer",
    "Timers",
    "WorkerDue",
]

CALENDAR_LOOK_S: Final = 5.0
"""How often the wall clock is looked at while something waits for it: it may have jumped forward."""


UNWANTED_MAX: Final = 10_000
"""Timers that may be there before the unwanted ones are looked for: about 2 MiB."""


class TaskReady(Struct, frozen=True):
    """A backoff or a start time is over, if the task is still at this attempt."""

    seq: TaskSeq
    attempt: int


class DeadlineDue(Struct, frozen=True):
    """A task's deadline has come."""

    seq: TaskSeq


class WorkerDue(Struct, frozen=True):
    """A worker may have been silent for too long: look, unless a later look was set since."""

    worker: WorkerId
    watch: int


class LineOverdue(Struct, frozen=True):
    """The head of a line may have run longer than was thought: look."""

    worker: WorkerId
    lane: LaneId


class GangImpossible(Struct, frozen=True):
    """A gang has waited long enough for workers that could hold all of it."""

    gang: str


class Impossible(Struct, frozen=True):
    """Tasks up to ``seq`` of a shape, in a queue, have waited long enough for a worker that could hold them."""

    shape: Shape
    queue: str
    seq: TaskSeq


class ReservationDue(Struct, frozen=True):
    """A reservation begins, or is over."""

    name: str


class CalendarDue(Struct, frozen=True):
    """A fire time of a calendar has come, if it still waits for this one."""

    name: str
    at: float


Timer = TaskReady | DeadlineDue | WorkerDue | LineOverdue | Impossible | GangImpossible | ReservationDue | CalendarDue


class Timers:
    """Two heaps. Equal times fire in the order in which they were set."""

    def __init__(self) -> None:
        self._steady: list[tuple[float, int, Timer]] = []
        self._calendar: list[tuple[float, int, Timer]] = []
        self._set = 0
        self._size_max = UNWANTED_MAX

    def __len__(self) -> int:
        return len(self._steady) + len(self._calendar)

    def at(self, steady: float, timer: Timer) -> None:
        """Fire at a time of the steady clock."""
        self._set += 1
        heappush(self._steady, (steady, self._set, timer))

    def at_wall(self, wall: float, timer: Timer) -> None:
        """Fire when the wall clock shows this time or a later one."""
        self._set += 1
        heappush(self._calendar, (wall, self._set, timer))

    def take_due(self, *, now: float, wall: float) -> list[Timer]:
        """Remove and return what is due."""
        due: list[Timer] = []
        while self._steady and self._steady[0][0] <= now:
            due.append(heappop(self._steady)[2])
        while self._calendar and self._calendar[0][0] <= wall:
            due.append(heappop(self._calendar)[2])
        return due

    def drop_unwanted(self, is_wanted: Callable[[Timer], bool]) -> None:
        """Throw out what nobody waits for, whenever the timers have doubled: O(1) a timer, amortised.

        Else a deadline of a week would keep each task's timer for a week, though it ended at once.
        """
        if len(self) <= self._size_max:
            return
        for heap in (self._steady, self._calendar):
            heap[:] = [entry for entry in heap if is_wanted(entry[2])]
            heapify(heap)
        self._size_max = max(UNWANTED_MAX, 2 * len(self))

    def next_at(self, *, now: float, wall: float) -> float | None:
        """Return the steady time at which to look again, or ``None`` if nothing is waited for."""
        next_at = self._steady[0][0] if self._steady else None
        if self._calendar:
            look_at = now + min(CALENDAR_LOOK_S, max(0.0, self._calendar[0][0] - wall))
            next_at = look_at if next_at is None else min(next_at, look_at)
        return next_at
