"""Spread: tasks of one job as far from each other as there are places: zones first, then workers.

Cost: O(log n) a choice, amortised, and O(n) for the first task of a job; O(zones) each time.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from heapq import heappop, heappush, heapreplace
from typing import Final

from rota.core.cluster import Room
from rota.core.placement.base import HasRoom, PlacementPolicy, RoomIndex
from rota.core.task import Task
from rota.core.workers import Worker

__all__ = ["Spread"]

ZONE: Final = "zone="
"""How a tag begins that says where a worker stands: what fails together has the same."""

JOBS_MAX: Final = 32
"""Jobs for which an index keeps its order of workers, those placed last: one more costs a look at every worker."""


ZONES_MAX: Final = 1_024
"""Sets of tags whose zone is remembered: to look for it costs a microsecond, and each placement does."""

STALE_FACTOR: Final = 4
"""A heap may hold so many entries a worker before the stale ones are thrown out."""

LOAD_MAX: Final = 0.99
"""A load counts as this if it is more."""

Place = str | int
_Counts = dict[Place, int]
_NONE: Final[_Counts] = {}


class Spread(PlacementPolicy):
    """Place where fewest tasks of the same job are: in the zone with the fewest, then on the worker with the fewest.

    A job is what has the same ``affinity``; without one, the same name, function or program. Workers of one zone
    have the same tag ``zone=…``; those without are a zone together. Of equals, the one with the lower load is taken.
    """

    name = "spread"
    looks_at_tasks = True

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._counts: dict[str, _Counts] = {}

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:  # noqa: ARG002 - the same for all shapes
        return _Jobs(self, self._rng, workers)

    def key_of(self, task: Task) -> str:
        return task.terms.affinity or task.terms.class_key

    def opened(self, worker: Worker, key: str) -> None:
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = {}
        for place in (worker.number, zone_of(worker.tags)):
            counts[place] = counts.get(place, 0) + 1

    def closed(self, worker: Worker, key: str) -> None:
        counts = self._counts[key]
        for place in (worker.number, zone_of(worker.tags)):
            counts[place] -= 1
            if not counts[place]:
                del counts[place]
        if not counts:
            del self._counts[key]

    def counts(self, key: str) -> Mapping[Place, int]:
        """How many tasks of a job are on each worker, by its number, and in each zone; those with none are left out."""
        return self._counts.get(key, _NONE)


@lru_cache(maxsize=ZONES_MAX)
def zone_of(tags: frozenset[str]) -> str:
    """The zone that tags name, empty if they name none."""
    return next((tag for tag in sorted(tags) if tag.startswith(ZONE)), "")


class _Jobs:
    """For each job a heap of workers in each zone; made when the first task of the job comes."""

    __slots__ = ("_heaps", "_noted", "_policy", "_rng")

    def __init__(self, policy: Spread, rng: random.Random, workers: Sequence[Worker]) -> None:
        self._policy = policy
        self._rng = rng
        self._noted = {worker.number: worker for worker in workers}
        self._heaps: OrderedDict[str, _Zones] = OrderedDict()

    def offer(self, worker: Worker) -> None:
        self._noted[worker.number] = worker
        for key, zones in self._heaps.items():
            self._offer(worker, zones, self._policy.counts(key))

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        zones, counts = self._zones(key), self._policy.counts(key)
        for _, zone in sorted([(counts.get(zone, 0), zone) for zone in zones]):
            worker = zones[zone].choose(counts, has_room, self._noted)
            if worker is not None:
                return worker
        return None

    def _zones(self, key: str) -> _Zones:
        zones = self._heaps.get(key)
        if zones is None:
            zones = self._heaps[key] = {}
            counts = self._policy.counts(key)
            for worker in self._noted.values():
                self._offer(worker, zones, counts)
            if len(self._heaps) > JOBS_MAX:
                self._heaps.popitem(last=False)
        self._heaps.move_to_end(key)
        return zones

    def _offer(self, worker: Worker, zones: _Zones, counts: Mapping[Place, int]) -> None:
        zone = zone_of(worker.tags)
        heap = zones.get(zone)
        if heap is None:
            heap = zones[zone] = _Heap(self._rng)
        heap.offer(worker, counts)


class _Heap:
    """The workers of a zone, those with the fewest tasks of a job first, equals by lot.

    A worker whose score rose keeps its old entry, which is too low and is corrected when it comes
    to the top. One whose score fell must be offered again, and so has a second, lower entry. Who was chosen last has no
    entry until the next look: its score has most likely risen, and so is reckoned once.
    """

    __slots__ = ("_heap", "_last", "_noted", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._noted: dict[int, Worker] = {}
        self._heap: list[tuple[float, float, int, Worker]] = []
        self._last: Worker | None = None

    def offer(self, worker: Worker, counts: Mapping[Place, int]) -> None:
        """Note a worker, with the score that it has now."""
        self._put_back(counts)
        self._push(worker, counts)
        self._noted[worker.number] = worker
        if len(self._heap) > STALE_FACTOR * len(self._noted) + 64:
            self._heap = []
            for one in self._noted.values():
                self._push(one, counts)

    def choose(self, counts: Mapping[Place, int], has_room: HasRoom, noted: dict[int, Worker]) -> Worker | None:
        """The first worker that has room; those before it are forgotten, by ``noted`` as well."""
        self._put_back(counts)
        heap = self._heap
        while heap:
            entry_score, lot, number, worker = heap[0]
            score = _score(worker, counts)
            if score > entry_score:
                heapreplace(heap, (score, lot, number, worker))
                continue
            heappop(heap)
            if has_room(worker):
                self._last = worker
                return worker
            self._noted.pop(number, None)
            noted.pop(number, None)
        return None

    def _put_back(self, counts: Mapping[Place, int]) -> None:
        """Give who was chosen last an entry again, with a new lot: else it would be chosen while its score stays."""
        last, self._last = self._last, None
        if last is not None:
            self._push(last, counts)

    def _push(self, worker: Worker, counts: Mapping[Place, int]) -> None:
        heappush(self._heap, (_score(worker, counts), self._rng.random(), worker.number, worker))


def _score(worker: Worker, counts: Mapping[Place, int]) -> float:
    """Fewer tasks of a job first, then less load, which is made small enough never to outweigh a task."""
    load = worker.ledger.load
    return counts.get(worker.number, 0) + (load if load < LOAD_MAX else LOAD_MAX)


_Zones = dict[str, _Heap]
