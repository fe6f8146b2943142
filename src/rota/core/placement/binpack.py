"""Bin packing: the worker that will be fullest, so that others stay free for large tasks, or can be switched off.

Cost: O(log n) a choice, amortised; O(1) while the same worker has room.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Final
from weakref import ref

from rota.core.cluster import Room
from rota.core.placement.base import HasRoom, PlacementPolicy, RoomIndex
from rota.core.workers import Worker

__all__ = ["BinPack", "utilisation"]

CPU_WEIGHT: Final = 0.7
MEMORY_WEIGHT: Final = 0.3
"""Of the score; the weights of the Kubernetes-like orchestrators that users come from."""

GPU_WEIGHT: Final = 10.0
"""Where cards are asked for they decide: more than cpu and memory can together."""

STALE_FACTOR: Final = 4
"""The heap may hold so many entries a worker before the stale ones are thrown out."""

Score = float


class BinPack(PlacementPolicy):
    """Place where 0.7 × cpu + 0.3 × memory in use is highest with the task there; cards decide where it needs some."""

    name = "binpack"
    watches_lanes = True

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._indexes: list[ref[_Fullest]] = []  # a WeakSet costs 2.3 µs to go through, once a lane

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:
        index = _Fullest(room, workers)
        self._indexes = [*(known for known in self._indexes if known() is not None), ref(index)]
        return index

    def lane_opened(self, worker: Worker) -> None:
        for known in self._indexes:
            index = known()
            if index is not None:
                index.rose(worker)


def utilisation(worker: Worker, room: Room) -> Score:
    """How full a worker is, 0.0 to 1.0, or with its cards up to 11.0 for a shape that asks for some."""
    ledger = worker.ledger
    score = CPU_WEIGHT * ledger.share_used("cpu") + MEMORY_WEIGHT * ledger.share_used("memory")
    if (room.cards or room.memory_mib) and worker.offer.gpus:
        score += GPU_WEIGHT * ledger.devices.taken_count() / len(worker.offer.gpus)
    return score


def _score_with(worker: Worker, room: Room) -> Score:
    """How full it is once a task of the shape is there."""
    capacity, score = worker.ledger.capacity, utilisation(worker, room)
    for name, amount in room.plain:
        total = capacity.get(name, 0)
        if total and name == "cpu":
            score += CPU_WEIGHT * amount / total
        elif total and name == "memory":
            score += MEMORY_WEIGHT * amount / total
    return score


class _Fullest:
    """A heap by score, highest first.

    A score falls when a task ends: then the worker is offered again, and its old entry, which is too high, is corrected
    when it comes to the top. It rises when a task is placed there: for tasks of this shape, that is the worker chosen
    last, which is looked at again before the next choice; for others the policy says so.
    """

    __slots__ = ("__weakref__", "_heap", "_last", "_noted", "_room")

    def __init__(self, room: Room, workers: Sequence[Worker]) -> None:
        self._room = room
        self._noted = {worker.number: worker for worker in workers}
        self._last: Worker | None = None
        self._rebuild()

    def offer(self, worker: Worker) -> None:
        last, self._last = self._last, None
        for one in (worker,) if last is None or last is worker else (worker, last):
            self._noted[one.number] = one
            heappush(self._heap, (-_score_with(one, self._room), one.number, one))
        if len(self._heap) > STALE_FACTOR * len(self._noted) + 64:
            self._rebuild()

    def rose(self, worker: Worker) -> None:
        """Note that a worker is fuller than before, if it is among those that may have room."""
        if worker is not self._last and worker.number in self._noted:
            self.offer(worker)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:  # noqa: ARG002 - all tasks are the same here
        last, self._last = self._last, None
        if last is not None:
            # Fuller than before, and nobody was offered since: no other can have overtaken it.
            if has_room(last):
                self._last = last
                return last
            self._noted.pop(last.number, None)
        while self._heap:
            noted, number, worker = self._heap[0]
            now = -_score_with(worker, self._room)
            heappop(self._heap)
            if number not in self._noted:
                continue
            if now > noted:
                heappush(self._heap, (now, number, worker))
            elif has_room(worker):
                heappush(self._heap, (now, number, worker))
                self._last = worker
                return worker
            else:
                del self._noted[number]
        return None

    def _rebuild(self) -> None:
        self._heap = [(-_score_with(worker, self._room), number, worker) for number, worker in self._noted.items()]
        heapify(self._heap)
