"""Random: any worker that fits, each with the same chance. Cost: O(1) a choice, amortised."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rota.core.cluster import Room
from rota.core.placement.base import LOOKS, CommonOrder, HasRoom, PlacementPolicy, RoomIndex
from rota.core.workers import Worker

__all__ = ["AtRandom"]


class AtRandom(PlacementPolicy):
    """Place on any worker that fits. Needs nothing to be known of load, so it is the yardstick for the others."""

    name = "random"

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:  # noqa: ARG002 - the same for all shapes
        return _Urn(self._rng, workers)

    def make_order(self) -> CommonOrder:
        return _Urn(self._rng, ())


class _Urn:
    """Workers to draw from. Who was refused is taken out, by putting the last one in its place."""

    __slots__ = ("_noted", "_rng", "_workers")

    def __init__(self, rng: random.Random, workers: Sequence[Worker]) -> None:
        self._rng = rng
        self._workers = list(workers)
        self._noted = {worker.number for worker in workers}

    def offer(self, worker: Worker) -> None:
        if worker.number not in self._noted:
            self._noted.add(worker.number)
            self._workers.append(worker)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:  # noqa: ARG002 - all tasks are the same here
        return self._draw(has_room, None)

    def look(self, has_room: HasRoom) -> Worker | None:
        return self._draw(has_room, LOOKS)

    def __len__(self) -> int:
        return len(self._workers)

    def _draw(self, has_room: HasRoom, looks: int | None) -> Worker | None:
        """Draw until somebody has room. Those without are taken out, or cost a look each where these are counted."""
        workers = self._workers
        while workers and looks != 0:
            index = int(self._rng.random() * len(workers))
            worker = workers[index]
            if has_room(worker):
                return worker
            if looks is None or not worker.is_open:
                self._take_out(index)
            else:
                looks -= 1
        return None

    def _take_out(self, index: int) -> None:
        workers = self._workers
        self._noted.remove(workers[index].number)
        workers[index] = workers[-1]
        workers.pop()
