"""Spread: tasks of one job as far from each other as there are places: zones first, then workers.

Cost: O(log n) a choice, amortised, and O(n) for the first task of a job; O(zones) each time.
"""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
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


class Spread(PlacementPolicy):
    """Place where fewest tasks of the same job are: in the zone with the fewest, then on the worker with the fewest.

    A job is what has the same ``affinity``; without one, the same name, function or program. Workers of one zone
    have the same tag ``zone=…``; those without are a zone together. Of equals, the one with the lower load is taken.
    """

    name = "spread"
    looks_at_tasks = True

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._counts: dict[tuple[str, str | int], int] = defaultdict(int)

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:  # noqa: ARG002 - the same for all shapes
        return _Jobs(self, self._rng, workers)

    def key_of(self, task: Task) -> str:
        return task.terms.affinity or task.terms.class_key

    def opened(self, worker: Worker, key: str) -> None:
        self._counts[key, worker.number] += 1
        self._counts[key, zone_of(worker)] += 1

    def closed(self, worker: Worker, key: str) -> None:
        for place in (worker.number, zone_of(worker)):
            self._counts[key, place] -= 1
            if not self._counts[key, place]:
                del self._counts[key, place]

    def count(self, key: str, place: str | int) -> int:
        """How many tasks of a job are on a worker, by its number, or in a zone."""
        return self._counts.get((key, place), 0)


def zone_of(worker: Worker) -> str:
    """The zone of a worker, empty if it says none."""
    return next((tag for tag in sorted(worker.tags) if tag.startswith(ZONE)), "")


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
            self._zone(zones, key, zone_of(worker)).offer(worker)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        zones = self._zones(key)
        for zone in sorted(zones, key=lambda zone: (self._policy.count(key, zone), zone)):
            worker = zones[zone].choose(key, lambda worker: self._is_still_good(worker, has_room))
            if worker is not None:
                return worker
        return None

    def _is_still_good(self, worker: Worker, has_room: HasRoom) -> bool:
        if has_room(worker):
            return True
        self._noted.pop(worker.number, None)
        return False

    def _zones(self, key: str) -> dict[str, LazyHeap]:
        zones = self._heaps.get(key)
        if zones is None:
            zones = self._heaps[key] = {}
            for worker in self._noted.values():
                self._zone(zones, key, zone_of(worker)).offer(worker)
            if len(self._heaps) > JOBS_MAX:
                self._heaps.popitem(last=False)
        self._heaps.move_to_end(key)
        return zones

    def _zone(self, zones: dict[str, LazyHeap], key: str, zone: str) -> LazyHeap:
        heap = zones.get(zone)
        if heap is None:
            count = self._policy.count
            heap = zones[zone] = LazyHeap(lambda worker: count(key, worker.number) + _below_one(worker), self._rng, ())
        return heap


def _below_one(worker: Worker) -> float:
    """Its load, made small enough never to outweigh a task."""
    return min(max(worker.ledger.load, 0.0), 0.99)
