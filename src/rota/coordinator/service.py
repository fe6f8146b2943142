"""What the coordinator does for whoever speaks to it: the port between its edges and its loop.

REST and gRPC handlers are thin: they parse, call one method here, and render. All
errors are those of ``rota.core.errors``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from rota.coordinator.calendars import CalendarDesk
from rota.coordinator.shares import Shares
from rota.core.model import (
    AttemptRecord,
    Offer,
    Reason,
    StreamName,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
    WorkerState,
)
from rota.core.protocol import Mark, Usage
from rota.core.shadow import ShadowReport
from rota.core.spec import TaskRequest
from rota.core.why import Why
from rota.store.base import TaskQuery

__all__ = ["Event", "NodeKind", "NodeView", "Service", "Stats", "TaskView"]


NodeKind = Literal["rota", "placement-only"]


class TaskView(Struct, frozen=True):
    """A task as of the last commit, with what only the living coordinator knows.

    ``reason`` says why a pending task waits, ``reason_text`` says it in a sentence; ``behind`` is
    how many attempts stand before it in its lane, for an assigned one. ``mark`` is how far a running one says it is.
    """

    record: TaskRecord
    reason: Reason | None
    reason_text: str | None
    behind: int | None
    mark: Mark | None = None


class NodeView(Struct, frozen=True):
    """A worker, known or connected. ``used`` is what its lanes reserve."""

    id: WorkerId
    instance: str
    state: WorkerState
    offer: Offer
    used: dict[str, int]
    tasks: int
    quarantined_slots: int
    drained: bool
    registered_at: float
    last_seen_s: float | None
    usage: Usage | None
    kind: NodeKind = "rota"


class Event(Struct, frozen=True):
    """One change of state.

    ``id`` is ``<commit>.<index>``; ``type`` is ``task.<state>``, ``task.progress`` (with ``fraction`` and ``text``),
    ``node.<state>`` or ``resync``.
    """

    id: str
    type: str
    at: float
    task: str | None = None
    node: str | None = None
    attempt: int | None = None
    cause: str | None = None
    fraction: float | None = None
    text: str | None = None


class Stats(Struct, frozen=True):
    """Counts for people and dashboards. ``rates`` are per second over the last 10 s.

    ``shadow`` is what another placement policy would have done, where one is asked.
    """

    tasks: dict[TaskState, int]
    reasons: dict[Reason, int]
    nodes: dict[WorkerState, int]
    capacity: dict[str, int]
    used: dict[str, int]
    rates: dict[str, float]
    uptime_s: float
    version: str
    cluster: str
    epoch: int
    shadow: ShadowReport | None = None


class Service(Protocol):
    """One running coordinator."""

    @property
    def shares(self) -> Shares:
        """Queues and limits."""
        ...

    @property
    def calendars(self) -> CalendarDesk:
        """What runs when the wall clock says so."""
        ...

    async def submit(
        self, requests: Sequence[TaskRequest], *, is_array: bool, must_be_new: bool = False
    ) -> list[TaskView]:
        """Accept all of the tasks or none; return when they are on the record.

        A chosen id that exists with an equal spec gives the existing task, unless it ``must_be_new``.

        Raises:
            Conflict: A chosen id exists with another spec, or at all (names the index if ``is_array``).
            Overloaded: More tasks would wait than ``--max-pending``.
            Unavailable: The store takes no writes, or the coordinator is stopping.
        """
        ...

    async def get(self, task_id: str) -> TaskView:
        """Return a task, ended or not. Raises `NotFound`."""
        ...

    async def wait(self, task_id: str, timeout_s: float) -> TaskView:
        """Return the task when it has ended or the time is over. Raises `NotFound`."""
        ...

    async def explain(self, task_id: str) -> tuple[TaskView, Why | None]:
        """Return a task and, if it is pending, all that is known of why it waits. Raises `NotFound`."""
        ...

    async def history(self, query: TaskQuery) -> tuple[list[TaskView], TaskSeq | None]:
        """Return tasks, newest first, and the cursor of the next page if there is one.

        A page may hold fewer than asked for, though more follow: it is bounded by bytes, too.
        """
        ...

    async def attempts(self, task_id: str) -> list[AttemptRecord]:
        """Return the superseded attempts of a task, oldest first. Raises `NotFound`."""
        ...

    async def cancel(self, task_id: str) -> tuple[TaskView, bool]:
        """Wish the end of a task; return it, and whether it had ended before. Raises `NotFound`."""
        ...

    async def retry(self, task_id: str) -> TaskView:
        """Bring a failed or cancelled task back, with fresh budgets. Raises `NotFound`, `Conflict`."""
        ...

    def logs(
        self, view: TaskView, *, attempt: int | None, stream: StreamName | None, follow: bool
    ) -> AsyncIterator[bytes]:
        """Yield the output of an attempt (the current one if ``None``), of one stream or of both.

        With ``follow`` it goes on until the task has ended, over retries.
        """
        ...

    async def nodes(self) -> list[NodeView]:
        """Return all known workers, in order of their ids."""
        ...

    async def drain(self, worker_id: str) -> NodeView:
        """Give the worker nothing new from now on. Raises `NotFound`."""
        ...

    async def resume(self, worker_id: str) -> NodeView:
        """Undo a drain. Raises `NotFound`."""
        ...

    async def forget(self, worker_id: str) -> NodeView:
        """Strike off a worker, and return it as it was; what it had runs elsewhere.

        Raises:
            NotFound: There is none.
            Conflict: It is there.
        """
        ...

    def events(self, last_id: str | None) -> AsyncIterator[Event | None]:
        """Yield events from now, or from after ``last_id``; ``None`` every 15 s without one, to keep the line open."""
        ...

    async def stats(self) -> Stats:
        """Return counts."""
        ...

    def is_ready(self) -> bool:
        """Say whether tasks are accepted now."""
        ...

    def metrics_text(self) -> tuple[bytes, str]:
        """Return the Prometheus page and its content type."""
        ...
