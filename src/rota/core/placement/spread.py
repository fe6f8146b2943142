"""Spread: tasks of one job as far from each other as there are places: zones first, then workers.

Cost: O(log n) a choice, amortised, and O(n) for the first task of a job; O(zones) each time.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from rota.core.cluster import Room, Worker
from rota.core.placement.base import HasRoom, PlacementPolicy, RoomIndex
from rota.core.placement.heaps import LazyHeap
from rota.core.task import Task

__all__ = ["Spread"]

ZONE: Final = "zone="
"""How a tag begins that says where a worker stands: what fails together has the same."""

JOBS_MAX: Final = 32
"""Jobs for which an index keeps its order of workers, those placed last: one more costs a look at every worker."""


ZONES_MAX: Final = 1_024
"""Sets of tags whose zone is remembered: to look for it costs a microsecond, and each placement does."""

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
        self._heaps: OrderedDict[str, dict[str, LazyHeap]] = OrderedDict()

    def offer(self, worker: Worker) -> None:
        self._noted[worker.number] = worker
        for key, zones in self._heaps.items():
            self._zone(zones, key, zone_of(worker.tags)).offer(worker)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        zones, counts = self._zones(key), self._policy.counts(key)
        for zone in sorted(zones, key=lambda zone: (counts.get(zone, 0), zone)):
            worker = zones[zone].choose(has_room, self._forget)
            if worker is not None:
                return worker
        return None

    def _forget(self, worker: Worker) -> None:
        self._noted.pop(worker.number, None)

    def _zones(self, key: str) -> dict[str, LazyHeap]:
        zones = self._heaps.get(key)
        if zones is None:
            zones = self._heaps[key] = {}
            for worker in self._noted.values():
                self._zone(zones, key, zone_of(worker.tags)).offer(worker)
            if len(self._heaps) > JOBS_MAX:
                self._heaps.popitem(last=False)
        self._heaps.move_to_end(key)
        return zones

    def _zone(self, zones: dict[str, LazyHeap], key: str, zone: str) -> LazyHeap:
        heap = zones.get(zone)
        if heap is None:
            heap = zones[zone] = LazyHeap(self._score_for(key), self._rng)
        return heap

    def _score_for(self, key: str) -> Callable[[Worker], float]:
        """Fewer tasks of a job first, then less load, which is made small enough never to outweigh a task."""
        counts_of = self._policy.counts
        return lambda worker: counts_of(key).get(worker.number, 0) + min(worker.ledger.load, 0.99)
