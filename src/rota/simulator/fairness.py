"""How queues share a cluster while several of them wait: what each got, next to what its weight gives it.

Jain, Chiu and Hawe, "A quantitative measure of fairness and discrimination for resource allocation in shared computer
systems", DEC-TR-301, 1984.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

__all__ = ["Fairness", "jain_index"]

PATIENCE_S: Final = 1.0
"""A queue shares once something of it has waited for so long. What is only on its way to a worker, in a cluster that
has room for all, is no more due than what another queue has there."""


class Fairness:
    """Follows what waits and what runs of each queue, in millicores. Queues are known by number, in order."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.got: list[float] = []
        self.due: list[float] = []
        self._weights_by_name = weights
        self._weights: list[float] = []
        self._waiting: list[int] = []
        self._running: list[int] = []
        self._cpu: list[int] = []
        self._patient_at: list[float] = []
        self._last = 0.0

    def comes(self, now: float, queue: int, name: str) -> None:
        """A task is accepted."""
        if queue == len(self._waiting):
            self._advance(now)
            self._weights.append(self._weights_by_name.get(name, 1.0))
            for column in (self._waiting, self._running, self._cpu, self.got, self.due):
                column.append(0)
            self._patient_at.append(math.inf)
        elif len(self._waiting) > 1:
            self._advance(now)
        self._waiting[queue] += 1

    def runs(self, now: float, queue: int, cpu: int) -> None:
        """An attempt begins."""
        if len(self._waiting) > 1:
            self._advance(now)
        self._running[queue] += 1
        self._cpu[queue] += cpu

    def stops(self, now: float, queue: int, cpu: int) -> None:
        """An attempt is over."""
        if len(self._waiting) > 1:
            self._advance(now)
        self._running[queue] -= 1
        self._cpu[queue] -= cpu

    def ends(self, now: float, queue: int) -> None:
        """A task is over."""
        if len(self._waiting) > 1:
            self._advance(now)
        self._waiting[queue] -= 1

    def index(self) -> float | None:
        """Jain's index of what queues got in parts of what was due to them; ``None`` if they never had to share."""
        parts = [got / due for got, due in zip(self.got, self.due, strict=True) if due > 0.0]
        return jain_index(parts) if len(parts) > 1 else None

    def _advance(self, now: float) -> None:
        """Share out what ran since the last look among those queues of which something waited for long enough."""
        since, self._last = self._last, now
        if now <= since:
            return
        for n, (open_tasks, running) in enumerate(zip(self._waiting, self._running, strict=True)):
            if open_tasks <= running:
                self._patient_at[n] = math.inf
            elif self._patient_at[n] == math.inf:
                self._patient_at[n] = since + PATIENCE_S
        moments = sorted({since, *(at for at in self._patient_at if since < at < now), now})
        for begin, end in pairwise(moments):
            self._share_out([n for n, at in enumerate(self._patient_at) if at <= begin], end - begin)

    def _share_out(self, backlogged: Sequence[int], seconds: float) -> None:
        if len(backlogged) < 2:
            return
        served = sum(self._cpu[n] for n in backlogged) * seconds
        weights = sum(self._weights[n] for n in backlogged)
        for n in backlogged:
            self.got[n] += self._cpu[n] * seconds
            self.due[n] += served * self._weights[n] / weights


def jain_index(shares: Sequence[float]) -> float:
    """Say how evenly something is shared: 1 where all have the same, 1/n where one has all.

    >>> jain_index([2.0, 2.0, 2.0]), jain_index([1.0, 0.0])
    (1.0, 0.5)
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
