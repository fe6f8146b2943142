"""Least-loaded: the worker whose dominant resource is used least, ties by lot.

Cost: O(log n) a choice in the number of workers of the shape, amortised.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from rota.core.cluster import Worker
from rota.core.placement.base import RoomIndex

__all__ = ["LeastLoaded"]

STALE_FACTOR: Final = 4
"""The heap may hold so many entries a worker before the stale ones are thrown out."""


class LeastLoaded:
    """Place on the worker with the lowest load ratio; see `Ledger.load`.

    References:
        dtask-scheduler places by the strictly lowest load ratio; the dominant resource is that of
        A. Ghodsi et al., "Dominant Resource Fairness", NSDI 2011.
    """

    name = "least-loaded"

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def make_index(self, workers: Sequence[Worker]) -> RoomIndex:
        return _LoadHeap(self._rng, workers)


class _LoadHeap:
    """A heap by load that is put right lazily.

    A worker whose load rose keeps its old entry, which is too low and is corrected when it comes
    to the top. One whose load fell is offered again and so has a second, lower entry.
    """

    __slots__ = ("_heap", "_noted", "_rng")

    def __init__(self, rng: random.Random, workers: Sequence[Worker]) -> None:
        self._rng = rng
        self._noted = {worker.number: worker for worker in workers}
        self._heap: list[tuple[float, float, int, Worker]] = []
        self._rebuild()

    def offer(self, worker: Worker) -> None:
        heappush(self._heap, (worker.ledger.load, self._rng.random(), worker.number, worker))
        self._noted[worker.number] = worker
        if len(self._heap) > STALE_FACTOR * len(self._noted) + 64:
            self._rebuild()

    def choose(self, has_room: Callable[[Worker], bool]) -> Worker | None:
        heap = self._heap
        while heap:
            load, tie, number, worker = heap[0]
            if worker.ledger.load > load:
                heapreplace(heap, (worker.ledger.load, tie, number, worker))
            elif has_room(worker):
                return worker
            else:
                heappop(heap)
                self._noted.pop(number, None)
        return None

    def _rebuild(self) -> None:
        self._heap = [
            (worker.ledger.load, self._rng.random(), number, worker) for number, worker in self._noted.items()
        ]
        heapify(self._heap)
