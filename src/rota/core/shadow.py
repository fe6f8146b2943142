"""A second placement policy beside the one that decides: where it would put what is placed, and what that would save.

It has a cluster of its own with the same workers. Each lane that is really opened is opened there too, on the worker
that the other policy chooses among those that have room *there*, and closed when the real one is. So both see
the same work for the same time, and differ in where it is. It decides nothing: what is asked of it is asked after the
turn, of its own objects, with lots of its own.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Final

from msgspec import Struct

from rota.core.cluster import Cluster, Room
from rota.core.model import generated_task_id
from rota.core.pending import Group
from rota.core.placement.placements import Placements
from rota.core.placement.policies import PolicyFactory
from rota.core.queues import Queues
from rota.core.workers import Lane, Worker

__all__ = ["PlacedElsewhere", "Shadow", "ShadowReport"]

EXAMPLES: Final = 20
"""Of the last differences that are kept for people."""

WAITING_MAX: Final = 32
"""Shapes that wait, of which it is looked whether they would have room: the first of them are the next to start."""


class PlacedElsewhere(Struct, frozen=True):
    """A lane that was opened on one worker, and would have been on another; ``None`` if nobody had room."""

    task: str
    worker: str
    other: str | None


class ShadowReport(Struct, frozen=True, kw_only=True):
    """What the other policy would have done since ``seconds`` ago.

    ``decisions`` lanes were opened, ``same`` of them on the worker that it chose, too; for ``no_room`` it had no room
    where the real policy had. ``workers_in_use`` and its own ``other_workers_in_use`` are averages over the time.
    ``would_start_s`` is for how long a task waited for resources for which the other policy had kept room.
    """

    policy: str
    seconds: float
    decisions: int
    same: int
    no_room: int
    workers_in_use: float
    other_workers_in_use: float
    would_start_s: float
    examples: list[PlacedElsewhere]


class Shadow:
    """Follows a cluster, turn by turn."""

    def __init__(
        self, policy: str, real: Cluster, *, factories: Mapping[str, PolicyFactory], seed: str, now: float
    ) -> None:
        self.policy = policy
        self._real = real
        self._queues = Queues()
        placements = Placements(random.Random(seed), default=policy, factories=factories)
        self._placements = placements
        self._cluster = Cluster(placements, self._queues)
        self._twins: dict[Lane, Lane] = {}
        self._opened: dict[Lane, None] = {}
        self._closed: list[Lane] = []
        self._version = -1
        self._began = self._last = now
        self._decisions = self._same = self._no_room = 0
        self._used_s = self._other_used_s = self._would_start_s = 0.0
        self._used: dict[Worker, int] = {}
        self._other_used: dict[Worker, int] = {}
        self._would_start = False
        self._examples: deque[PlacedElsewhere] = deque(maxlen=EXAMPLES)

    # While a turn is applied

    def lane_opened(self, lane: Lane) -> None:
        """Note a lane: what it would have been is asked when the turn is over."""
        self._opened[lane] = None

    def lane_closed(self, lane: Lane) -> None:
        """Note that a lane is gone; one that was opened in the same turn was never there."""
        if lane in self._opened:
            del self._opened[lane]
        else:
            self._closed.append(lane)

    # When it is over

    def follow(self, waiting: Mapping[Group, float], *, now: float) -> None:
        """Do what the turn did, in the other policy's way.

        Args:
            waiting: The groups that wait for resources.
            now: Steady seconds.
        """
        self._count_time(now)
        if self._version != self._real.version:
            self._version = self._real.version
            self._mirror_workers(now)
        for lane in self._closed:
            self._close(lane)
        self._closed.clear()
        self._offer_freed()
        for lane in self._opened:
            self._open(lane)
        self._opened.clear()
        self._cluster.forget_idle_rooms(())
        self._would_start = any(self._has_room(group.room) for group in islice(waiting, WAITING_MAX))

    def report(self, now: float) -> ShadowReport:
        """Sum up what was seen since the start."""
        self._count_time(now)
        passed = max(now - self._began, 1e-9)
        return ShadowReport(
            policy=self.policy if self._placements.policy(None).trouble is None else f"{self.policy} (failed)",
            seconds=now - self._began,
            decisions=self._decisions,
            same=self._same,
            no_room=self._no_room,
            workers_in_use=self._used_s / passed,
            other_workers_in_use=self._other_used_s / passed,
            would_start_s=self._would_start_s,
            examples=list(self._examples),
        )

    def _count_time(self, now: float) -> None:
        passed, self._last = now - self._last, now
        self._used_s += passed * len(self._used)
        self._other_used_s += passed * len(self._other_used)
        if self._would_start:
            self._would_start_s += passed

    def _mirror_workers(self, now: float) -> None:
        """Let the same workers be there, in the same state. O(workers), when some came or went."""
        workers = self._cluster.workers
        for gone in [worker for worker in workers.values() if worker.id not in self._real.workers]:
            self._empty(gone)
            self._cluster.remove(gone)
        for real in self._real.workers.values():
            mirror = workers.get(real.id)
            if mirror is None:
                mirror = self._cluster.add(real.record(), now=now)
            elif mirror.offer != real.offer:
                self._empty(mirror)
                self._cluster.change_offer(mirror, real.offer)
            mirror.session, mirror.state = real.session, real.state
            mirror.drained, mirror.leaving = real.drained, real.leaving
            mirror.kept, mirror.quarantined = real.kept, real.quarantined
        self._cluster.indexes.drop_all(self._cluster.rooms.values())
        self._cluster.freed.clear()

    def _empty(self, mirror: Worker) -> None:
        """Close what is thought to run on a worker that is no more what it was."""
        for real, twin in list(self._twins.items()):
            if twin.worker is mirror:
                self._close_twin(real)

    def _open(self, real: Lane) -> None:
        _count_up(self._used, real.worker)
        room = self._cluster.room(real.room.shape, real.room.queue.name)
        if room.queue.settings is not real.room.queue.settings:
            room.queue.change(real.room.queue.settings)
            self._cluster.queue_changed(room.queue)
        index = self._cluster.indexes.of(room)
        key = room.policy.key_of(real.line[0]) if room.policy.looks_at_tasks and real.line else ""
        chosen = index.choose(key, room.fits_now)
        self._cluster.indexes.keep(room, index)
        self._decisions += 1
        if chosen is None:
            self._no_room += 1
        else:
            [self._twins[real]] = self._cluster.open_lanes(room, [(chosen, key)])
            _count_up(self._other_used, chosen)
        if chosen is not None and chosen.id == real.worker.id:
            self._same += 1
        elif real.line:
            head = real.line[0]
            task = head.chosen_id or generated_task_id(head.seq)
            self._examples.append(PlacedElsewhere(task, real.worker.id, None if chosen is None else chosen.id))

    def _close(self, real: Lane) -> None:
        _count_down(self._used, real.worker)
        self._close_twin(real)

    def _close_twin(self, real: Lane) -> None:
        twin = self._twins.pop(real, None)
        if twin is not None:
            self._cluster.close_lane(twin)
            _count_down(self._other_used, twin.worker)

    def _offer_freed(self) -> None:
        freed = list(self._cluster.freed)
        self._cluster.freed.clear()
        self._cluster.indexes.note_freed(freed)

    def _has_room(self, real: Room) -> bool:
        room = self._cluster.room(real.shape, real.queue.name)
        index = self._cluster.indexes.of(room)
        chosen = index.choose("", room.fits_now)
        self._cluster.indexes.keep(room, index)
        return chosen is not None


def _count_up(lanes: dict[Worker, int], worker: Worker) -> None:
    lanes[worker] = lanes.get(worker, 0) + 1


def _count_down(lanes: dict[Worker, int], worker: Worker) -> None:
    left = lanes.get(worker, 0) - 1
    if left > 0:
        lanes[worker] = left
    else:
        lanes.pop(worker, None)
