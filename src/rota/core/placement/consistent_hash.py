"""Consistent hashing: tasks with the same key on the same worker, so that what they load is there already.

Cost: O(log n) a choice while workers have room; who was refused is passed over.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from typing import Final
from zlib import crc32

from rota.core.cluster import Room
from rota.core.placement.base import HasRoom, PlacementPolicy, RoomIndex
from rota.core.task import Task
from rota.core.workers import Worker

__all__ = ["ConsistentHash"]

POINTS: Final = 64
"""Of a worker on the ring: with so many its share of the keys is within a tenth or two of the mean."""

POINTS_ALL_MAX: Final = 65_536
"""Of all workers: beyond a thousand each has fewer, because there are enough others to even it out."""

POINTS_MIN: Final = 8

SHARE_LEAST: Final = 4
"""What a worker may have in any case: a few tasks of one key are no hot key, however few tasks there are in all."""

BOUND: Final = 1.25
"""How many times the mean a worker may have of such tasks before its keys spill over to the next on the ring."""

FEW_NEW: Final = 500
"""Points that come are put in one by one if there are at least so many times as many: else to sort all is quicker."""

_SPREAD: Final = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: multiplied with it, neighbours come far from each other."""
_MASK: Final = (1 << 64) - 1


class ConsistentHash(PlacementPolicy):
    """Place by the hash of a task's ``affinity``, else of its id. A worker more or less moves its share of keys only.

    References:
        D. Karger et al., "Consistent Hashing and Random Trees", STOC 1997; the bound on the load: V. Mirrokni et al.,
        "Consistent Hashing with Bounded Loads", SODA 2018.
    """

    name = "consistent-hash"
    looks_at_tasks = True

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._counts: dict[int, int] = {}
        self._total = 0

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:  # noqa: ARG002 - the same for all shapes
        return _Ring(self, workers)

    def key_of(self, task: Task) -> str:
        return task.terms.affinity or task.id

    def opened(self, worker: Worker, key: str) -> None:  # noqa: ARG002 - all of a worker's count together
        self._counts[worker.number] = self._counts.get(worker.number, 0) + 1
        self._total += 1

    def closed(self, worker: Worker, key: str) -> None:  # noqa: ARG002 - as above
        self._total -= 1
        left = self._counts[worker.number] - 1
        if left:
            self._counts[worker.number] = left
        else:
            del self._counts[worker.number]

    def has_its_share(self, worker: Worker, *, of: int) -> bool:
        """Whether a worker has as many tasks as one of so many may have."""
        count = self._counts.get(worker.number, 0)
        return count >= SHARE_LEAST and count * of >= BOUND * (self._total + 1)


def point_of_key(key: str) -> int:
    """Where a key stands on the ring: 64 bits."""
    return crc32(key.encode("utf-8", "surrogatepass")) * _SPREAD & _MASK


def points_of(worker: Worker, count: int) -> list[int]:
    """Where a worker stands: the same places whoever asks, and whenever."""
    points: list[int] = []
    while len(points) < count:
        digest = blake2b(f"{worker.id}/{len(points)}".encode()).digest()
        points += [int.from_bytes(digest[at : at + 8], "little") for at in range(0, 64, 8)]
    return points[:count]


class _Ring:
    """Points of workers in order. Who was refused is skipped, and taken off the ring with half of the others.

    The points are 8 bytes each, so that those of 10,000 workers stay in the processor's cache; as pairs with their
    workers they cost 8 MB, and four times as long to search.
    """

    __slots__ = ("_away", "_new", "_owners", "_points", "_points_each", "_policy", "_workers")

    def __init__(self, policy: ConsistentHash, workers: Sequence[Worker]) -> None:
        self._policy = policy
        self._points_each = max(POINTS_MIN, min(POINTS, POINTS_ALL_MAX // max(len(workers), 1)))
        self._points = array("Q")
        self._owners: dict[int, Worker] = {}
        self._workers: dict[int, Worker] = {}
        self._away: set[int] = set()
        self._new: list[int] = []
        for worker in workers:
            self.offer(worker)

    def offer(self, worker: Worker) -> None:
        self._away.discard(worker.number)
        if worker.number not in self._workers:
            self._workers[worker.number] = worker
            for point in points_of(worker, self._points_each):
                self._own(point, worker)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        """The first worker from the key on that has room and not yet its share; else the first that has room."""
        if self._new:
            self._put_on()
        points, owners, away, has_its_share = self._points, self._owners, self._away, self._policy.has_its_share
        start, here = bisect_left(points, point_of_key(key)), len(self._workers) - len(away)
        spare: Worker | None = None
        passed: set[int] = set()
        for place in chain(range(start, len(points)), range(start)):
            worker = owners[points[place]]
            number = worker.number
            if number in away or number in passed:
                continue
            if not has_room(worker):
                away.add(number)
                here -= 1
            elif has_its_share(worker, of=here):
                spare = spare or worker
                passed.add(number)
            else:
                spare = worker
                break
            if len(passed) >= here:
                break
        if 2 * len(away) > len(self._workers):
            self._take_off()
        return spare

    def _own(self, point: int, worker: Worker) -> None:
        """Give a point to a worker; if two have the same one, which is rarer than anything, to the first of them."""
        before = self._owners.get(point)
        if before is None:
            self._new.append(point)
        if before is None or worker.number < before.number:
            self._owners[point] = worker

    def _put_on(self) -> None:
        """Put new points in their places: one by one if they are few, else all are sorted again."""
        new, self._new = self._new, []
        if FEW_NEW * len(new) < len(self._points):
            for point in new:
                insort(self._points, point)
        else:
            self._points = array("Q", sorted([*self._points, *new]))

    def _take_off(self) -> None:
        """Take those off the ring that were refused."""
        for number in self._away:
            del self._workers[number]
        self._away = set()
        self._owners = {point: worker for point, worker in self._owners.items() if worker.number in self._workers}
        self._points = array("Q", [point for point in self._points if point in self._owners])
