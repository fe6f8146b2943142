"""The port to what remembers: one small protocol, one file a backend.

A store keeps rows: the current state of every task is a row, superseded attempts, workers
and sessions of the SDK have rows of their own, and what has ended stays as history until retention removes it.
Every write carries a fence (epoch, holder, number) that is checked and advanced in the
same transaction, so that a deposed leader can't write, a commit of unknown outcome is
recognised, and a store that went back in time is noticed.

Errors are those of ``rota.core.errors`` and nothing else: `StoreUnavailable` (full, locked),
`StoreBroken` (an I/O error: the process leaves), `StoreUnusable`, `StoreHeld`, `LostLeadership`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from rota.core.changes import Changes, Fence
from rota.core.model import (
    AttemptRecord,
    ClientRecord,
    Setting,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
    WorkerRecord,
)

__all__ = ["Leadership", "Page", "Retention", "Store", "TaskQuery"]


class Leadership(Struct, frozen=True):
    """A reign: the store is at commit ``number``, and the next one carries ``number + 1``.

    ``cluster`` is a random id made with the store, which never changes; ``last_seq`` is the highest
    sequence number any task ever had, also of tasks that retention has removed.
    """

    cluster: str
    epoch: int
    holder: str
    number: int
    last_seq: TaskSeq


class TaskQuery(Struct, frozen=True, kw_only=True):
    """Which tasks to list, newest first.

    Every condition that is given must hold. ``name`` matches exactly, or as a prefix when it ends
    in ``*``. ``labels`` must all be there. ``since`` and ``until`` (wall clock, seconds) bound
    ``created_at``: since <= created_at < until. ``before`` is where the page starts: the last seq of
    the page before. ``limit`` is 1 to 1,000. With ``bytes_max`` a page ends before what is stored of its tasks would be
    more, specs and results above all; one task it holds in any case.
    """

    states: frozenset[TaskState] | None = None
    queue: str | None = None
    name: str | None = None
    labels: Mapping[str, str] = {}
    worker: WorkerId | None = None
    since: float | None = None
    until: float | None = None
    before: TaskSeq | None = None
    limit: int = 100
    bytes_max: int | None = None


class Page(Struct, frozen=True):
    """Some tasks, newest first; ``next_before`` is the cursor of the next page, if there is one."""

    tasks: list[TaskRecord]
    next_before: TaskSeq | None


class Retention(Struct, frozen=True, kw_only=True):
    """How long ended tasks are kept: up to ``max_age_s`` and ``max_tasks``, whichever is less.

    Over the count, completed and cancelled tasks go before failed ones, and what ended first before what ended later.
    """

    max_age_s: float = 7 * 86_400.0
    max_tasks: int = 2_000_000


class Store(Protocol):
    """What every backend does. All methods may raise the errors named above."""

    async def campaign(self, candidate: str) -> Leadership:
        """Return when this process leads, with an epoch higher than any before.

        ``candidate`` is a sentence for people (host, pid), shown to whoever comes second.
        """
        ...

    def load_tasks(self) -> AsyncIterator[Sequence[TaskRecord]]:
        """Yield the tasks that have not ended, in batches, in order of their seq."""
        ...

    async def load_workers(self) -> list[WorkerRecord]:
        """Return the known workers, in order of their ids."""
        ...

    async def load_clients(self) -> list[ClientRecord]:
        """Return the sessions of the SDK, in order of their ids."""
        ...

    async def load_settings(self) -> list[Setting]:
        """Return what operators have set, in order of kind and name."""
        ...

    async def commit(self, changes: Changes, fence: Fence) -> None:
        """Write all of the changes, durably, or none of them.

        After `StoreUnavailable` nothing was written. A commit whose outcome is unknown is looked
        up by its number before this returns or raises.
        """
        ...

    async def history(self, query: TaskQuery) -> Page:
        """Return tasks, ended or not, as of the last commit."""
        ...

    async def find_tasks(self, ids: Sequence[str]) -> dict[str, TaskRecord]:
        """Look tasks up by generated or chosen id; unknown ids are left out."""
        ...

    async def attempts(self, seq: TaskSeq) -> list[AttemptRecord]:
        """Return the superseded attempts of a task, oldest first."""
        ...

    async def count_by_state(self) -> dict[TaskState, int]:
        """Count the kept tasks by state, quickly (from counters, not by a scan)."""
        ...

    async def prune(self, retention: Retention, *, wall: float, at_most: int) -> list[TaskSeq]:
        """Remove up to ``at_most`` ended tasks that retention no longer keeps; return which."""
        ...

    async def close(self) -> None:
        """Let go of the store. Safe to call twice."""
        ...
