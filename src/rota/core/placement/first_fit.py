"""First fit: the worker that registered first among those with room.

With ``fcfs`` ordering this is the classic FCFS scheduler.
Cost: O(log n) a choice, amortised; O(1) while the same worker has room.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from rota.core.cluster import Room
from rota.core.placement.base import HasRoom, PlacementPolicy, RoomIndex
from rota.core.workers import Worker

__all__ = ["FirstFit"]


class FirstFit(PlacementPolicy):
    """Fill workers up in the order in which they registered; the last ones stay empty as long as they can."""

    name = "first-fit"

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:  # noqa: ARG002 - the same for all shapes
        return _InOrder(workers)


class _InOrder:
    __slots__ = ("_heap", "_noted")

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._heap = [(worker.number, worker) for worker in workers]
        self._noted = {worker.number for worker in workers}
        heapify(self._heap)

    def offer(self, worker: Worker) -> None:
        if worker.number not in self._noted:
            self._noted.add(worker.number)
            heappush(self._heap, (worker.number, worker))

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:  # noqa: ARG002 - all tasks are the same here
        heap = self._heap
        while heap:
            number, worker = heap[0]
            if has_room(worker):
                return worker
            heappop(heap)
            self._noted.remove(number)
        return None
