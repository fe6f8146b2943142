"""A heap of workers by a score that is put right lazily: what `least-loaded` and `spread` are made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from rota.core.cluster import Worker
from rota.core.placement.base import HasRoom

__all__ = ["LazyHeap"]

STALE_FACTOR: Final = 4
"""The heap may hold so many entries a worker before the stale ones are thrown out."""


class LazyHeap:
    """The worker with the lowest score first, equals by lot. Cost: O(log n) a choice, amortised.

    A worker whose score rose keeps its old entry, which is too low and is corrected when it comes
    to the top. One whose score fell must be offered again, and so has a second, lower entry.
    """

    __slots__ = ("_heap", "_noted", "_rng", "_score")

    def __init__(self, score: Callable[[Worker], float], rng: random.Random, workers: Iterable[Worker]) -> None:
        self._score = score
        self._rng = rng
        self._noted = {worker.number: worker for worker in workers}
        self._heap: list[tuple[float, float, int, Worker]] = []
        self._rebuild()

    def offer(self, worker: Worker) -> None:
        """Note a worker, with the score that it has now."""
        heappush(self._heap, (self._score(worker), self._rng.random(), worker.number, worker))
        self._noted[worker.number] = worker
        if len(self._heap) > STALE_FACTOR * len(self._noted) + 64:
            self._rebuild()

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:  # noqa: ARG002 - it is in the score, if anywhere
        """The first worker that has room; those before it are forgotten."""
        heap, score = self._heap, self._score
        while heap:
            noted, tie, number, worker = heap[0]
            now = score(worker)
            if now > noted:
                heapreplace(heap, (now, tie, number, worker))
            elif has_room(worker):
                # Its lot is drawn anew: else it would be chosen for as long as its score stays the same.
                heapreplace(heap, (noted, self._rng.random(), number, worker))
                return worker
            else:
                heappop(heap)
                self._noted.pop(number, None)
        return None

    def _rebuild(self) -> None:
        score, rng = self._score, self._rng
        self._heap = [(score(worker), rng.random(), number, worker) for number, worker in self._noted.items()]
        heapify(self._heap)
