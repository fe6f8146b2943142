"""Round robin: one worker after the other, in turns. Cost: O(1) a choice, amortised."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rota.core.cluster import Room
from rota.core.placement.base import HasRoom, PlacementPolicy, RoomIndex
from rota.core.workers import Worker

__all__ = ["RoundRobin"]


class RoundRobin(PlacementPolicy):
    """Place on the worker whose turn it is. One that was full and has room again comes last."""

    name = "round-robin"

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:  # noqa: ARG002 - the same for all shapes
        return _Turns(workers)


class _Turns:
    __slots__ = ("_had", "_noted", "_turns")

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._turns = deque(workers)
        self._noted = {worker.number for worker in workers}
        self._had: tuple[Worker, int] | None = None

    def offer(self, worker: Worker) -> None:
        if worker.number not in self._noted:
            self._noted.add(worker.number)
            self._turns.append(worker)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:  # noqa: ARG002 - all tasks are the same here
        turns = self._turns
        if turns and self._had is not None and self._had[0] is turns[0] and self._had[1] != turns[0].next_lane:
            turns.rotate(-1)  # it was given a lane since: its turn is over
        while turns:
            worker = turns[0]
            if has_room(worker):
                self._had = worker, worker.next_lane
                return worker
            turns.popleft()
            self._noted.remove(worker.number)
        return None
