"""Least-loaded: a worker whose dominant resource is used least, those within 0.05 of each other by lot.

Cost: O(log n) a choice in the number of workers of the shape, amortised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rota.core.cluster import Room, Worker
from rota.core.placement.base import PlacementPolicy, RoomIndex
from rota.core.placement.heaps import LazyHeap

__all__ = ["TIE", "LeastLoaded"]

TIE: Final = 0.05
"""Loads in one step of this width are equal: a fraction less says nothing of which machine is the better one, and
all who start at once would go to it."""


class LeastLoaded(PlacementPolicy):
    """Place on one of the workers with the lowest load ratio; see `Ledger.load`.

    References:
        dtask-scheduler places by the strictly lowest load ratio; the dominant resource is that of
        A. Ghodsi et al., "Dominant Resource Fairness", NSDI 2011.
    """

    name = "least-loaded"

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:  # noqa: ARG002 - the same for all shapes
        return LazyHeap(_load_step, self._rng, workers)


def _load_step(worker: Worker) -> int:
    return int(worker.ledger.load / TIE)
