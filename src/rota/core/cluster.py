"""All workers, their lanes, and what is left of them (one by one: `rota.core.workers`).

For every shape in use there is a *room*: the lanes that have it, and an index of the placement policy over the workers
that may have room for it, so that placing one task looks at no more workers than it needs.

Shapes can be as many as tasks, so a room costs nothing a worker until it is to be placed. Its index is made
then; it is empty while the shape waits, because nobody has room, and of those that don't wait only the last
few are kept. What changes with a worker is noted here and looked at once, by the next pass.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from rota.core.commands import SessionId
from rota.core.estimates import RunTimes
from rota.core.indexes import Indexes, RoomView
from rota.core.model import Gpu, LaneId, Offer, Reason, Shape, Terms, WorkerId, WorkerRecord, WorkerState
from rota.core.queues import Queue, Queues
from rota.core.reservations import fits_beside
from rota.core.resources import split_need
from rota.core.tags import TagFilter
from rota.core.timers import Impossible
from rota.core.workers import Lane, Worker

if TYPE_CHECKING:
    from rota.core.placement.base import PlacementPolicy
    from rota.core.placement.placements import Placements

__all__ = ["ROOMS_MAX", "Cluster", "LaneWatcher", "Room"]

ROOMS_MAX: Final = 256
"""Rooms that may be there before the idle ones are looked for: each remembers how long its tasks take."""

_ONLINE: Final = WorkerState.ONLINE


class LaneWatcher(Protocol):
    """Who wants to know of every lane, when it is opened and when it is closed."""

    def lane_opened(self, lane: Lane) -> None: ...

    def lane_closed(self, lane: Lane) -> None: ...


class Room:
    """All that belongs to one shape in one queue: who may have room for it, which lanes have it, how long it runs.

    ``index`` is there while tasks of the shape wait, and for some time afterwards. ``verdict`` is why they
    wait, found when the workers were as `Cluster.version` says. ``impossible`` is the timer that ends the
    patience with tasks that nobody could ever hold. ``filter`` is what its tags say, decided once for each set of
    tags. Each queue has rooms of its own: what one may have is not what another may.
    """

    __slots__ = (
        "_accepted",
        "cards",
        "filter",
        "hungry",
        "impossible",
        "index",
        "lanes",
        "memory_mib",
        "needs_cards",
        "plain",
        "policy",
        "queue",
        "run_times",
        "shape",
        "verdict",
    )

    def __init__(self, shape: Shape, policy: PlacementPolicy, queue: Queue) -> None:
        self.shape = shape
        self.policy = policy
        self.queue = queue
        self.filter = TagFilter(shape.tags)
        self._accepted: dict[frozenset[str], bool] = {}
        self.plain, self.cards, self.memory_mib = split_need(shape.resources)
        self.needs_cards = bool(self.cards or self.memory_mib)
        self.index: RoomView | None = None
        self.lanes = 0
        self.hungry: dict[Lane, None] = {}
        self.run_times = RunTimes()
        self.verdict: tuple[int, Reason] | None = None
        self.impossible: Impossible | None = None

    def accepts(self, worker: Worker) -> bool:
        """Say whether the worker's tags are as the shape wants them."""
        verdict = self._accepted.get(worker.tags)
        if verdict is None:
            verdict = self._accepted[worker.tags] = self.filter.accepts(worker.tags)
        return verdict

    def preference(self, worker: Worker) -> int:
        """How many of the tags that the shape prefers the worker has."""
        return self.filter.preference(worker.tags)

    def could_ever_run_on(self, worker: Worker) -> bool:
        """Say whether the worker has the tags and, empty, the resources."""
        return self.accepts(worker) and worker.ledger.could_ever(self.plain, self.cards, self.memory_mib)

    def fits_now(self, worker: Worker) -> bool:
        """Say whether the worker may be given one more lane of this shape, now. First asked is what fails most."""
        free = worker.ledger.free
        for name, amount in self.plain:
            if free.get(name, 0) < amount:
                return False
        return (
            worker.session is not None
            and worker.state is _ONLINE
            and not (worker.drained or worker.leaving)  # that is `is_open`: a call less, once a placement
            and (not worker.kept or fits_beside(worker, self))
            and self.accepts(worker)
            and len(worker.lanes) + worker.quarantined < worker.max_tasks
            and (not self.needs_cards or worker.ledger.devices.find(self.cards, self.memory_mib) is not None)
        )


class Cluster:
    """All workers and rooms.

    For the next pass: ``stirred`` are rooms to look at, ``freed`` workers that may have room that they had not,
    and ``has_changed`` says that workers came or went, so that whatever waits may wait for another reason.
    ``indexes`` are what rooms are placed by, ``long_lines`` the lanes in which somebody stands behind the head.
    ``watcher`` is told of all lanes, if there is one.
    """

    def __init__(self, placements: Placements, queues: Queues) -> None:
        self._placements = placements
        self._queues = queues
        self._tag_sets: dict[frozenset[str], frozenset[str]] = {}
        self.workers: dict[WorkerId, Worker] = {}
        self.sessions: dict[SessionId, Worker] = {}
        self.rooms: dict[tuple[Shape, str], Room] = {}
        self.stirred: dict[Room, None] = {}
        self.freed: dict[Worker, None] = {}
        self.indexes = Indexes(placements, self.workers)
        self.long_lines: dict[Lane, None] = {}
        self.has_changed = False
        self.version = 0
        self.watcher: LaneWatcher | None = None
        self._numbers = 0
        self._shared: tuple[int, dict[str, int]] = (-1, {})
        self._rooms_max = ROOMS_MAX

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
        self.freed.pop(worker, None)
        self._note_change()

    def dismantle(self) -> None:
        """Untie workers, lanes and tasks, of whom nothing is wanted any more.

        They refer to each other, and the cyclic collector can't see lanes and tasks: it would leave them all.
        """
        for worker in self.workers.values():
            for lane in worker.lanes.values():
                for task in lane.line:
                    task.run = None
                lane.line.clear()
            worker.lanes.clear()
        for room in self.rooms.values():
            room.hungry.clear()
        self.long_lines.clear()

    def worker_changed(self, worker: Worker) -> None:
        """Look again at every shape that waits: the worker came, was resumed, or went."""
        self.freed[worker] = None
        self._note_change()

    @property
    def is_restless(self) -> bool:
        """Whether there is anything for a pass to look at."""
        return bool(self.stirred or self.freed or self.has_changed)

    def _seat(self, worker: Worker) -> None:
        # One object for each set of tags: asking a room about it is then a look-up that compares no texts.
        worker.tags = self._tag_sets.setdefault(worker.tags, worker.tags)
        for room in self.rooms.values():
            if room.impossible is not None and room.could_ever_run_on(worker):
                room.impossible = None
        self.worker_changed(worker)

    def _note_change(self) -> None:
        self.has_changed = True
        self.version += 1

    # Rooms

    def room(self, shape: Shape, queue_name: str) -> Room:
        """Find or make the room of a shape in a queue."""
        key = shape, queue_name
        room = self.rooms.get(key)
        if room is None:
            queue = self._queues.get(queue_name)
            room = self.rooms[key] = Room(shape, self._policy_of(shape, queue), queue)
        return room

    def room_of(self, terms: Terms) -> Room:
        """The room of tasks with these terms."""
        return self.room(terms.shape, terms.queue)

    def queue_changed(self, queue: Queue) -> None:
        """Look again at what waits in a queue, by the policy that it has now.

        Also at the rooms that the queue knows itself: those of a gang may have been forgotten here while it waited.
        """
        self.stirred.update(queue.rooms)
        queue.rooms.clear()
        for room in self.rooms.values():
            if room.queue is queue:
                policy = self._policy_of(room.shape, queue)
                if policy is not room.policy:
                    room.policy = policy
                    self.indexes.drop(room)
                self.stirred[room] = None

    def _policy_of(self, shape: Shape, queue: Queue) -> PlacementPolicy:
        return self._placements.policy(shape.placement or queue.settings.placement)

    def forget_idle_rooms(self, in_use: Container[Room]) -> None:
        """Drop rooms without lanes and pending tasks whenever rooms have doubled: O(1) a room, amortised."""
        if len(self.rooms) <= self._rooms_max:
            return
        for key, room in list(self.rooms.items()):
            if not room.lanes and room not in in_use:
                del self.rooms[key]
                self.stirred.pop(room, None)
                self.indexes.drop(room)
        self._queues.forget_all_but({room.queue.name for room in self.rooms.values()})
        self._rooms_max = max(ROOMS_MAX, 2 * len(self.rooms))

    def could_ever_run(self, room: Room) -> Iterator[Worker]:
        """The workers that could hold the shape if they were empty. O(workers): for slow paths only."""
        return (worker for worker in self.workers.values() if room.could_ever_run_on(worker))

    def refusal(self, room: Room) -> Reason:
        """Say what keeps the room's tasks waiting, now that nobody could be chosen. Kept until workers change."""
        if room.verdict is None or room.verdict[0] != self.version:
            room.verdict = (self.version, self._refusal(room))
        return room.verdict[1]

    def _refusal(self, room: Room) -> Reason:
        if any(worker.is_open for worker in self.could_ever_run(room)):
            return Reason.RESOURCES
        if not self.workers or any(self.could_ever_run(room)):
            return Reason.NO_WORKERS
        tagged = any(room.accepts(worker) for worker in self.workers.values())
        return Reason.IMPOSSIBLE if tagged else Reason.TAGS

    # Lanes

    def open_lanes(self, room: Room, choices: Iterable[tuple[Worker, str]]) -> list[Lane]:
        """Reserve the shape for a lane on each worker, which has room for it, by the key of its task, if it has one.

        The next worker is asked for when the lane before is reserved, so that it can be chosen by what is left. What
        concerns the room and its queue is put right once for all of them.
        """
        lanes: list[Lane] = []
        for worker, key in choices:
            devices = worker.ledger.devices.find(room.cards, room.memory_mib) if room.needs_cards else ()
            assert devices is not None
            lane = self._reserve(worker, room, LaneId(worker.next_lane), devices)
            if key:
                self.give_key(lane, key)
            lanes.append(lane)
        self._count(room, len(lanes))
        return lanes

    def adopt_lane(self, worker: Worker, room: Room, lane_id: LaneId, devices: tuple[int, ...]) -> Lane:
        """Reserve the shape for a lane whose number is known: at a start, from the rows."""
        lane = self._reserve(worker, room, lane_id, devices)
        self._count(room, 1)
        return lane

    def _reserve(self, worker: Worker, room: Room, lane_id: LaneId, devices: tuple[int, ...]) -> Lane:
        lane = worker.lanes[lane_id] = Lane(lane_id, worker, room, devices, [])
        if worker.next_lane <= lane_id:
            worker.next_lane = lane_id + 1
        worker.ledger.reserve(room.plain)
        if devices:
            worker.ledger.devices.take(devices, room.cards, room.memory_mib)
        for policy in self._placements.watching:
            policy.lane_opened(worker)
        if self.watcher is not None:
            self.watcher.lane_opened(lane)
        return lane

    def _count(self, room: Room, lanes: int) -> None:
        room.lanes += lanes
        room.queue.reserve(room.shape.resources, lanes)

    def close_lane(self, lane: Lane, *, in_vain: bool = False) -> None:
        """Give the reservation back, exactly once; the next pass looks at what could use it.

        Not where this pass has opened the lane ``in_vain``: nobody gains room that was not there before.
        """
        assert not lane.line
        if not in_vain:
            self.freed[lane.worker] = None
        worker, room = lane.worker, lane.room
        del worker.lanes[lane.id]
        worker.ledger.release(room.plain)
        if lane.devices:
            worker.ledger.devices.give_back(lane.devices, room.cards, room.memory_mib)
        room.lanes -= 1
        room.queue.release(room.shape.resources)
        room.hungry.pop(lane, None)
        self.long_lines.pop(lane, None)
        if lane.policy is not None:
            lane.policy.closed(worker, lane.key)
        if self.watcher is not None:
            self.watcher.lane_closed(lane)

    def give_key(self, lane: Lane, key: str) -> None:
        """Let the policy of a lane know what task it is for, if that looks at tasks."""
        lane.key, lane.policy = key, lane.room.policy
        lane.policy.opened(lane.worker, key)

    def shared_capacity(self) -> dict[str, int]:
        """What all connected workers offer, as it was when workers came or went last: O(1) most of the time."""
        if self._shared[0] != self.version:
            self._shared = self.version, self.capacity()
        return self._shared[1]

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
