"""How far running attempts say they are: the last word of each, for people to look at.

Not on the record: after a restart of the coordinator it is not known until the attempt says more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from rota.core.changes import Changes
from rota.core.commands import SessionId
from rota.core.model import AttemptKey, TaskSeq, TaskState
from rota.core.protocol import Mark
from rota.core.task import Task
from rota.process.clock import wall_s

__all__ = ["MarkBoard", "MarkEvent"]

MARKS_MAX: Final = 100_000
"""Attempts of which it is remembered: as many as would run on a thousand machines."""

TEXT_CHARS_MAX: Final = 200

TOLD_EVERY_S: Final = 1.0
"""Between two events of one attempt: as often as people look."""

TOLD_MAX: Final = 200
"""Events a second of all attempts: they must not push changes of state out of what is kept."""


class MarkEvent(Struct, frozen=True):
    """Something to be shown to those who listen."""

    at: float
    task: str
    attempt: int
    fraction: float | None
    text: str


class _Seen(Struct):
    mark: Mark
    told_at: float


class MarkBoard:
    """The last mark of each attempt that is running.

    Args:
        find_task: Finds a task that has not ended.
        tell: Shows something to those who listen.
    """

    def __init__(self, find_task: Callable[[TaskSeq], Task | None], tell: Callable[[MarkEvent], None]) -> None:
        self._find_task = find_task
        self._tell = tell
        self._seen: dict[TaskSeq, _Seen] = {}
        self._told_since = 0.0
        self._told = 0

    def __len__(self) -> int:
        return len(self._seen)

    def take(self, session: SessionId, marks: Iterable[Mark], *, now: float) -> None:
        """Keep what a worker says of its own attempts, and tell of it now and then."""
        for mark in marks:
            task = self._find_task(mark.task)
            if task is None or task.attempt != mark.attempt or not _is_of(task, session):
                continue
            seen = self._seen.get(mark.task)
            if seen is None:
                if len(self._seen) >= MARKS_MAX:
                    continue
                seen = self._seen[mark.task] = _Seen(mark, now - TOLD_EVERY_S)
            seen.mark = _bounded(mark)
            if now - seen.told_at >= TOLD_EVERY_S and self._may_tell(now):
                seen.told_at = now
                self._tell(MarkEvent(wall_s(), task.id, mark.attempt, seen.mark.fraction, seen.mark.text))

    def find(self, key: AttemptKey) -> Mark | None:
        """Return what an attempt said last."""
        seen = self._seen.get(key[0])
        return seen.mark if seen is not None and seen.mark.attempt == key[1] else None

    def publish(self, changes: Changes) -> None:
        """Forget attempts that do not run any more."""
        seen = self._seen
        if not seen:
            return
        for seq, progress in changes.progress:
            if seq in seen and (progress.state is not TaskState.RUNNING or progress.attempt != seen[seq].mark.attempt):
                del seen[seq]

    def clear(self) -> None:
        """Forget all: the workers are sent away."""
        self._seen.clear()

    def _may_tell(self, now: float) -> bool:
        if now - self._told_since >= 1.0:
            self._told_since, self._told = now, 0
        self._told += 1
        return self._told <= TOLD_MAX


def _is_of(task: Task, session: SessionId) -> bool:
    return task.run is not None and task.run.lane.worker.session == session


def _bounded(mark: Mark) -> Mark:
    """Keep a share within 1, and a text that fits a line."""
    fraction = None if mark.fraction is None else min(mark.fraction, 1.0)
    text = "".join(char if char.isprintable() else " " for char in mark.text[:TEXT_CHARS_MAX])
    return Mark(mark.task, mark.attempt, fraction, text)
