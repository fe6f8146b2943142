"""Consistent hashing: tasks with the same key on the same worker, so that what they load is there already.

Cost: O(log n) a choice while workers have room; who was refused is passed over.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Sequence
from hashlib import blake2b
from math import ceil
from typing import Final
from zlib import crc32

from rota.core.cluster import Room, Worker
from rota.core.placement.base import HasRoom, PlacementPolicy, RoomIndex
from rota.core.task import Task

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
        return self._counts.get(worker.number, 0) >= max(SHARE_LEAST, ceil(BOUND * (self._total + 1) / of))


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
    """Points of workers in order. Who was refused is skipped, and taken off the ring with half of the others."""

    __slots__ = ("_away", "_on_ring", "_points", "_points_each", "_policy", "_workers")

    def __init__(self, policy: ConsistentHash, workers: Sequence[Worker]) -> None:
        self._policy = policy
        self._points_each = max(POINTS_MIN, min(POINTS, POINTS_ALL_MAX // max(len(workers), 1)))
        self._workers = {worker.number: worker for worker in workers}
        self._on_ring = set(self._workers)
        self._away: set[int] = set()
        self._points = sorted(self._points_of(workers))

    def offer(self, worker: Worker) -> None:
        number = worker.number
        self._workers[number] = worker
        self._away.discard(number)
        if number not in self._on_ring:
            self._on_ring.add(number)
            for point in self._points_of([worker]):
                insort(self._points, point)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        """The first worker from the key on that has room and not yet its share; else the first that has room."""
        spare: Worker | None = None
        passed: set[int] = set()
        points, here = self._points, len(self._workers) - len(self._away)
        start = bisect_left(points, (point_of_key(key), 0))
        for step in range(len(points)):
            number = points[(start + step) % len(points)][1]
            if number in self._away or number in passed:
                continue
            worker = self._workers[number]
            if not has_room(worker):
                self._away.add(number)
                here -= 1
            elif self._policy.has_its_share(worker, of=max(here, 1)):
                spare = spare or worker
                passed.add(number)
            else:
                spare = worker
                break
            if len(passed) >= here:
                break
        self._tidy()
        return spare

    def _tidy(self) -> None:
        """Take those off the ring that were refused, once they are half of it."""
        if 2 * len(self._away) <= len(self._on_ring):
            return
        self._on_ring -= self._away
        for number in self._away:
            del self._workers[number]
        self._points = [point for point in self._points if point[1] not in self._away]
        self._away = set()

    def _points_of(self, workers: Sequence[Worker]) -> list[tuple[int, int]]:
        return [(point, worker.number) for worker in workers for point in points_of(worker, self._points_each)]
