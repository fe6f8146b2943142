"""Workers that one kind of request may have, the best first: at a cost that their number does not change.

Workers stand in buckets of equal rank; a heap has the ranks. A worker that became better is put right at once
(`offer`), one that became worse, filled up or fell silent when it is come across: so the lowest rank is always
exact, and a task that is given costs one index, however many there are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from operator import attrgetter
from types import MappingProxyType
from typing import Final

from rota.core.advisor.model import AdvisedWorker

__all__ = ["RANKS", "RISING", "RankIndex"]

Rank = Callable[[AdvisedWorker], float]

SPARE_RANKS: Final = 64
"""Empty buckets that are kept whatever the number of workers: to clear them away costs a walk through all."""


def _same(_worker: AdvisedWorker) -> float:
    return 0.0


def _emptiness(worker: AdvisedWorker) -> float:
    return -worker.load


RANKS: Final[Mapping[str, Rank]] = MappingProxyType(
    {
        "least-loaded": attrgetter("load"),
        "random": _same,
        "round-robin": attrgetter("turn"),
        "first-fit": attrgetter("number"),
        "binpack": _emptiness,
    }
)
"""By placement: the lowest goes first, ties at random. What a task's own key or neighbours decide is not known here."""

RISING: Final = frozenset({"binpack"})
"""Placements with which a worker that got a task is better than before, so that all their indexes must hear of it."""


class RankIndex:
    """Workers in order of their ranks.

    Args:
        placement: Of `RANKS`.
        resources: What a worker must have free, by name.
        rng: Of the ties.
    """

    __slots__ = ("_bucket_of", "_buckets", "_place_of", "_random", "_rank_of", "_ranks", "_resources")

    def __init__(self, placement: str, resources: tuple[tuple[str, int], ...], rng: random.Random) -> None:
        self._rank_of = RANKS[placement]
        self._resources = resources
        self._random = rng.random
        self._ranks: list[float] = []
        self._buckets: dict[float, list[AdvisedWorker]] = {}
        self._bucket_of: dict[AdvisedWorker, float] = {}
        self._place_of: dict[AdvisedWorker, int] = {}

    def __len__(self) -> int:
        return len(self._bucket_of)

    def has_room(self, worker: AdvisedWorker) -> bool:
        """Whether a worker could have one more, were it heard of."""
        if worker.current_tasks >= worker.max_tasks:
            return False
        if not self._resources:
            return True
        free = worker.free
        return free is not None and all(free.get(name, 0) >= amount for name, amount in self._resources)

    def offer(self, worker: AdvisedWorker) -> None:
        """Hear of a worker that may have become better; one that became worse is left where it stands."""
        if not self.has_room(worker):
            return
        filed = self._bucket_of.get(worker)
        if filed is not None:
            if filed <= self._rank_of(worker):
                return
            self.discard(worker)
        self._file(worker)

    def find(self, *, heard_after: float) -> AdvisedWorker | None:
        """Return the best of the workers with room that were heard of since a steady time."""
        while self._ranks:
            rank = self._ranks[0]
            bucket = self._buckets[rank]
            if not bucket:
                heappop(self._ranks)
                del self._buckets[rank]
                continue
            worker = bucket[int(self._random() * len(bucket))]
            is_able = worker.last_seen > heard_after and self.has_room(worker)
            if is_able and self._rank_of(worker) == rank:
                return worker
            self.discard(worker)
            if is_able:
                self._file(worker)  # which may clear empty buckets away, this one among them
        return None

    def refile(self, worker: AdvisedWorker) -> None:
        """Put a worker right that was given a task."""
        self.discard(worker)
        if self.has_room(worker):
            self._file(worker)

    def discard(self, worker: AdvisedWorker) -> None:
        """Take a worker out, if it is here."""
        rank = self._bucket_of.pop(worker, None)
        if rank is None:
            return
        bucket = self._buckets[rank]
        place = self._place_of.pop(worker)
        last = bucket.pop()
        if last is not worker:
            bucket[place] = last
            self._place_of[last] = place

    def ranked(self) -> list[tuple[float, AdvisedWorker]]:
        """Who stands where, for those who check us."""
        return [(rank, worker) for rank, bucket in self._buckets.items() for worker in bucket]

    def _file(self, worker: AdvisedWorker) -> None:
        rank = self._rank_of(worker)
        bucket = self._buckets.get(rank)
        if bucket is None:
            bucket = self._buckets[rank] = []
            heappush(self._ranks, rank)
            if len(self._ranks) > 2 * len(self._bucket_of) + SPARE_RANKS:
                self._clear_empty(but=rank)
        self._bucket_of[worker] = rank
        self._place_of[worker] = len(bucket)
        bucket.append(worker)

    def _clear_empty(self, *, but: float) -> None:
        self._buckets = {rank: bucket for rank, bucket in self._buckets.items() if bucket or rank == but}
        self._ranks = list(self._buckets)
        heapify(self._ranks)
