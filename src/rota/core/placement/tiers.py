"""Preferred tags: of the workers with room, those come first that meet most preferences. Goes with every policy.

Cost: that of the policy, times the numbers of preferences met that there are, which are few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rota.core.placement.base import HasRoom, RoomIndex
from rota.core.workers import Worker

__all__ = ["Tiers"]


class Tiers:
    """An index of the policy for each number of preferences that a worker may meet."""

    __slots__ = ("_make", "_preference", "_tiers")

    def __init__(
        self, make: Callable[[], RoomIndex], preference: Callable[[Worker], int], workers: Sequence[Worker]
    ) -> None:
        self._make = make
        self._preference = preference
        self._tiers: dict[int, RoomIndex] = {}
        for worker in workers:
            self.offer(worker)

    def offer(self, worker: Worker) -> None:
        met = self._preference(worker)
        index = self._tiers.get(met)
        if index is None:
            index = self._tiers[met] = self._make()
        index.offer(worker)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        for met in sorted(self._tiers, reverse=True):
            worker = self._tiers[met].choose(key, has_room)
            if worker is not None:
                return worker
        return None
