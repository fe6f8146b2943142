"""A heap of workers by a score that is put right lazily: what `spread` is made of."""

from __future__ import annotations

import random
from collections.abc import Callable
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
    to the top. One whose score fell must be offered again, and so has a second, lower entry. Who was chosen last has no
    entry until the next look: its score has most likely risen, and so is reckoned once.
    """

    __slots__ = ("_heap", "_last", "_noted", "_rng", "_score")

    def __init__(self, score: Callable[[Worker], float], rng: random.Random) -> None:
        self._score = score
        self._rng = rng
        self._noted: dict[int, Worker] = {}
        self._heap: list[tuple[float, float, int, Worker]] = []
        self._last: Worker | None = None

    def offer(self, worker: Worker) -> None:
        """Note a worker, with the score that it has now."""
        self._put_back()
        self._push(worker)
        self._noted[worker.number] = worker
        if len(self._heap) > STALE_FACTOR * len(self._noted) + 64:
            self._rebuild()

    def choose(self, has_room: HasRoom, forget: Callable[[Worker], object]) -> Worker | None:
        """The first worker that has room; those before it are forgotten, and ``forget`` is told."""
        self._put_back()
        heap, score = self._heap, self._score
        while heap:
            noted, tie, number, worker = heap[0]
            now = score(worker)
            if now > noted:
                heapreplace(heap, (now, tie, number, worker))
                continue
            heappop(heap)
            if has_room(worker):
                self._last = worker
                return worker
            self._noted.pop(number, None)
            forget(worker)
        return None

    def _put_back(self) -> None:
        """Give who was chosen last an entry again, with a new lot: else it would be chosen while its score stays."""
        last, self._last = self._last, None
        if last is not None:
            self._push(last)

    def _push(self, worker: Worker) -> None:
        heappush(self._heap, (self._score(worker), self._rng.random(), worker.number, worker))

    def _rebuild(self) -> None:
        score, rng = self._score, self._rng
        self._heap = [(score(worker), rng.random(), number, worker) for number, worker in self._noted.items()]
        heapify(self._heap)
