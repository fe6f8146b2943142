"""Workers, their lanes, and what is left of them.

A worker offers resources; a lane reserves some for one shape and runs one attempt at a time,
with a line of others of the same shape behind it. What is reserved of a worker is the sum of its
lanes. For every shape in use there is a *room*: the workers that could ever hold it, indexed by
the placement policy, and the lanes that have it, so that placing one task looks at no more
workers than it needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from rota.core.commands import SessionId
from rota.core.estimates import RunTimes
from rota.core.model import Gpu, LaneId, Offer, Reason, Shape, WorkerId, WorkerRecord, WorkerState
from rota.core.protocol import Usage
from rota.core.resources import Ledger, split_need
from rota.core.spec import EXECUTOR_TAG
from rota.core.timers import Impossible

if TYPE_CHECKING:
    from rota.core.placement.base import PlacementPolicy, RoomIndex
    from rota.core.task import Task

__all__ = ["Cluster", "Lane", "Room", "Worker"]

IDLE_ROOMS_MAX: Final = 256
"""Rooms kept while nothing of their shape is there: making one anew looks at every worker."""


class Lane:
    """A reservation on a worker for a shape, and the attempts that inherit it in order.

    ``line[0]`` is the attempt that may have started. ``head_since`` is when it came to the front and
    ``backlog_s`` the estimated work of all of the line. A recalled lane gets nothing new
    until its head has ended.
    """

    __slots__ = ("backlog_s", "devices", "head_since", "id", "line", "recalled", "room", "timer_armed", "worker")

    def __init__(self, lane_id: LaneId, worker: Worker, room: Room, devices: tuple[int, ...]) -> None:
        self.id = lane_id
        self.worker = worker
        self.room = room
        self.devices = devices
        self.line: deque[Task] = deque()
        self.backlog_s = 0.0
        self.head_since = 0.0
        self.recalled = False
        self.timer_armed = False


class Worker:
    """An agent process that offers resources, connected or not."""

    __slots__ = (
        "drained",
        "id",
        "instance",
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


class Room:
    """All that belongs to one shape: who could hold it, which lanes have it, how long it runs.

    ``impossible`` is the timer that ends the patience with tasks that nobody could ever hold.
    """

    __slots__ = (
        "cards",
        "eligible",
        "hungry",
        "impossible",
        "index",
        "lanes",
        "memory_mib",
        "plain",
        "reason",
        "run_times",
        "shape",
    )

    def __init__(self, shape: Shape, index: RoomIndex) -> None:
        self.shape = shape
        self.plain, self.cards, self.memory_mib = split_need(shape.resources)
        self.index = index
        self.eligible: dict[WorkerId, Worker] = {}
        self.lanes = 0
        self.hungry: dict[Lane, None] = {}
        self.run_times = RunTimes()
        self.reason: Reason | None = None
        self.impossible: Impossible | None = None

    def could_ever_run_on(self, worker: Worker) -> bool:
        """Say whether the worker has the tags and, empty, the resources."""
        return self.shape.tags <= worker.tags and worker.ledger.could_ever(self.plain, self.cards, self.memory_mib)

    def fits_now(self, worker: Worker) -> bool:
        """Say whether the worker may be given one more lane of this shape, now."""
        return (
            worker.is_open
            and worker.id in self.eligible  # an index may still hold one that came back with less to offer
            and len(worker.lanes) + worker.quarantined < worker.max_tasks
            and worker.ledger.fits(self.plain)
            and (
                not (self.cards or self.memory_mib)
                or worker.ledger.devices.find(self.cards, self.memory_mib) is not None
            )
        )


class Cluster:
    """All workers and rooms."""

    def __init__(self, policy: PlacementPolicy) -> None:
        self.policy = policy
        self.workers: dict[WorkerId, Worker] = {}
        self.sessions: dict[SessionId, Worker] = {}
        self.rooms: dict[Shape, Room] = {}
        self.stirred: dict[Room, None] = {}
        self._numbers = 0

    # Workers

    def add(self, record: WorkerRecord, *, now: float) -> Worker:
        """Put a worker that was not known before among the others."""
        assert record.id not in self.workers
        self._numbers += 1
        worker = Worker(record, number=self._numbers, now=now)
        self.workers[worker.id] = worker
        self._seat(worker)
        return worker

    def change_offer(self, worker: Worker, offer: Offer) -> None:
        """Take a new offer from a worker whose lanes are all closed."""
        worker.take_offer(offer)
        self._seat(worker)

    def remove(self, worker: Worker) -> None:
        """Forget a worker that has no lanes."""
        assert not worker.lanes
        del self.workers[worker.id]
        for room in self.rooms.values():
            room.eligible.pop(worker.id, None)
            self._stir(room)

    def worker_changed(self, worker: Worker) -> None:
        """Look again at every shape the worker could hold: it came, was resumed, or went."""
        for room in self.rooms.values():
            if worker.id in room.eligible:
                room.index.offer(worker)
                self._stir(room)

    def _seat(self, worker: Worker) -> None:
        for room in self.rooms.values():
            if room.could_ever_run_on(worker):
                room.eligible[worker.id] = worker
                room.index.offer(worker)
                room.impossible = None
            else:
                room.eligible.pop(worker.id, None)
            self._stir(room)

    def _stir(self, room: Room) -> None:
        """Look at the shape again, and find its reason anew: who there is has changed."""
        room.reason = None
        self.stirred[room] = None

    # Rooms

    def room(self, shape: Shape) -> Room:
        """Find or make the room of a shape. Making one looks at every worker once."""
        room = self.rooms.get(shape)
        if room is None:
            room = self.rooms[shape] = Room(shape, self.policy.make_index())
            for worker in self.workers.values():
                if room.could_ever_run_on(worker):
                    room.eligible[worker.id] = worker
                    room.index.offer(worker)
        return room

    def forget_idle_rooms(self, in_use: Container[Room]) -> None:
        """Drop the rooms that have no lanes and no pending tasks, when there are too many of them."""
        if len(self.rooms) <= IDLE_ROOMS_MAX:
            return
        for shape, room in list(self.rooms.items()):
            if not room.lanes and room not in in_use:
                del self.rooms[shape]
                self.stirred.pop(room, None)

    def refusal(self, room: Room) -> Reason:
        """Say what keeps the room's tasks waiting, now that nobody could be chosen. Kept until workers change."""
        if room.reason is None:
            room.reason = self._refusal(room)
        return room.reason

    def _refusal(self, room: Room) -> Reason:
        if any(worker.is_open for worker in room.eligible.values()):
            return Reason.RESOURCES
        if room.eligible or not self.workers:
            return Reason.NO_WORKERS
        tagged = any(room.shape.tags <= worker.tags for worker in self.workers.values())
        return Reason.IMPOSSIBLE if tagged else Reason.TAGS

    # Lanes

    def open_lane(self, worker: Worker, room: Room) -> Lane:
        """Reserve the shape on a worker that has room for it."""
        devices = worker.ledger.devices.find(room.cards, room.memory_mib)
        assert devices is not None
        return self.adopt_lane(worker, room, LaneId(worker.next_lane), devices)

    def adopt_lane(self, worker: Worker, room: Room, lane_id: LaneId, devices: tuple[int, ...]) -> Lane:
        """Reserve the shape for a lane whose number is known: at a start, from the rows."""
        lane = Lane(lane_id, worker, room, devices)
        worker.next_lane = max(worker.next_lane, lane_id + 1)
        worker.lanes[lane_id] = lane
        worker.ledger.reserve(room.plain)
        worker.ledger.devices.take(devices, room.cards, room.memory_mib)
        room.lanes += 1
        return lane

    def close_lane(self, lane: Lane) -> None:
        """Give the reservation back, exactly once, and look again at what could use it."""
        assert not lane.line
        worker, room = lane.worker, lane.room
        del worker.lanes[lane.id]
        worker.ledger.release(room.plain)
        worker.ledger.devices.give_back(lane.devices, room.cards, room.memory_mib)
        room.lanes -= 1
        room.hungry.pop(lane, None)
        if worker.is_open:
            for other in self.rooms.values():
                if worker.id in other.eligible and other.fits_now(worker):
                    other.index.offer(worker)
                    self.stirred[other] = None

    def capacity(self) -> dict[str, int]:
        """What all connected workers offer together."""
        return _sum(dict(worker.offer.resources) | _cards(worker.offer.gpus) for worker in self._present())

    def used(self) -> dict[str, int]:
        """What lanes reserve of it."""
        return _sum(worker.ledger.used() for worker in self._present())

    def _present(self) -> Iterator[Worker]:
        return (worker for worker in self.workers.values() if worker.state is not WorkerState.OFFLINE)


def _cards(gpus: tuple[Gpu, ...]) -> dict[str, int]:
    return {"gpu": len(gpus)} if gpus else {}


def _sum(amounts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in amounts:
        for name, amount in each.items():
            total[name] = total.get(name, 0) + amount
    return total
