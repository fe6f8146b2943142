"""Workers and their lanes.

A worker offers resources; a lane reserves some for one shape and runs one attempt at a time, with a line of others of
the same shape behind it. What is reserved of a worker is the sum of its lanes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from rota.core.commands import SessionId
from rota.core.model import LaneId, Offer, WorkerRecord, WorkerState
from rota.core.protocol import Usage
from rota.core.resources import Ledger
from rota.core.spec import EXECUTOR_TAG, PYTHON_TAG

if TYPE_CHECKING:
    from rota.core.cluster import Room
    from rota.core.placement.base import PlacementPolicy
    from rota.core.reservations import Kept
    from rota.core.task import Task

__all__ = ["Lane", "Worker"]


class Lane(Struct, eq=False, gc=False):
    """A reservation on a worker for a shape, and the attempts that inherit it in order.

    ``line[0]`` is the attempt that may have started. ``head_since`` is when it came to the front and
    ``backlog_s`` the estimated work of all of the line. A recalled lane gets nothing new
    until its head has ended. ``is_shared`` says that part of the line was asked back for somebody idle. ``key`` is
    what its policy knows its task by, where that looks at tasks.

    A line is a list: most hold one attempt, and an empty deque is 600 bytes, which costs 0.4 µs; to take the head off a
    list of 2,000 costs 0.15 µs more.
    """

    id: LaneId
    worker: Worker
    room: Room
    devices: tuple[int, ...]
    line: list[Task]
    key: str = ""
    policy: PlacementPolicy | None = None
    backlog_s: float = 0.0
    head_since: float = 0.0
    recalled: bool = False
    is_shared: bool = False
    timer_armed: bool = False


class Worker:
    """An agent process that offers resources, connected or not."""

    __slots__ = (
        "drained",
        "id",
        "instance",
        "kept",
        "lanes",
        "last_seen",
        "leaving",
        "ledger",
        "lost_at",
        "max_tasks",
        "next_lane",
        "next_place",
        "number",
        "offer",
        "quarantined",
        "registered_at",
        "session",
        "skew_s",
        "state",
        "tags",
        "usage",
        "watch",
    )

    def __init__(self, record: WorkerRecord, *, number: int, now: float) -> None:
        self.id = record.id
        self.number = number
        self.instance = record.instance
        self.drained = record.drained
        self.registered_at = record.registered_at
        self.lost_at = record.lost_at
        self.last_seen = now
        self.state = WorkerState.OFFLINE if record.lost_at is not None else WorkerState.SUSPICIOUS
        self.session: SessionId | None = None
        self.leaving = False
        self.kept: tuple[Kept, ...] = ()
        self.quarantined = 0
        self.skew_s = 0.0
        self.usage: Usage | None = None
        self.lanes: dict[LaneId, Lane] = {}
        self.next_lane = 1
        self.next_place = 1
        self.watch = 0
        self.take_offer(record.offer)

    def take_offer(self, offer: Offer) -> None:
        """Begin anew with what the worker offers. It must have no lanes."""
        assert not self.lanes
        self.offer = offer
        self.tags = offer.tags | {EXECUTOR_TAG + kind for kind in offer.kinds}
        if offer.python:
            self.tags |= {PYTHON_TAG + offer.python}
        self.max_tasks = offer.max_tasks
        self.ledger = Ledger(offer.resources, offer.gpus)

    @property
    def is_open(self) -> bool:
        """Whether it may be given new attempts."""
        return self.session is not None and self.state is WorkerState.ONLINE and not self.drained and not self.leaving

    @property
    def shown_state(self) -> WorkerState:
        """The state for people: an online worker that takes nothing new is draining."""
        if self.state is WorkerState.ONLINE and (self.drained or self.leaving):
            return WorkerState.DRAINING
        return self.state

    def record(self) -> WorkerRecord:
        """The worker as the store keeps it."""
        return WorkerRecord(
            id=self.id,
            instance=self.instance,
            offer=self.offer,
            drained=self.drained,
            registered_at=self.registered_at,
            lost_at=self.lost_at,
        )

    def attempts(self) -> Iterator[Task]:
        """All tasks whose current attempt it has, lane by lane, in the order of their lines."""
        for lane in self.lanes.values():
            yield from lane.line
