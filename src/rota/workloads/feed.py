"""A load for a real cluster: the tasks of a pattern and a mix, handed out as they fall due, cut to what workers have.

Pure like the rest: whoever drives a cluster with it brings the clock and the way to submit.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from rota.workloads.arrivals import ArrivalPattern
from rota.workloads.mixes import Mix, WorkloadTask

__all__ = ["TaskFeed", "fitted", "largest_of"]

PROGRAM_MIB: Final = 32
"""What the program of a synthetic task takes itself, and some room."""


class TaskFeed:
    """The tasks that are to come, in their order.

    Args:
        arrivals: When they come.
        mix: What they are.
        rng: Of all chance.
    """

    def __init__(self, arrivals: ArrivalPattern, mix: Mix, rng: random.Random) -> None:
        self._mix = mix
        self._rng = rng
        self._times = arrivals.times(rng)
        self.next_s = next(self._times, None)
        """When the next one falls due, in seconds from the start; ``None`` after the last."""

    def take_due(self, elapsed_s: float, *, most: int) -> list[WorkloadTask]:
        """Remove and return what has fallen due.

        Args:
            elapsed_s: Seconds from the start.
            most: How many to return at most; the rest stays due.
        """
        due: list[WorkloadTask] = []
        while self.next_s is not None and self.next_s <= elapsed_s and len(due) < most:
            due.append(self._mix.draw(self._rng))
            self.next_s = next(self._times, None)
        return due


def largest_of(offers: Sequence[Mapping[str, int]]) -> Mapping[str, int] | None:
    """Return the largest of what workers offer, by cores and then by memory; ``None`` of no workers.

    >>> largest_of([{"cpu": 2000, "memory": 8192}, {"cpu": 4000, "memory": 1024}])
    {'cpu': 4000, 'memory': 1024}
    """
    return max(offers, key=lambda offer: (offer.get("cpu", 0), offer.get("memory", 0)), default=None)


def fitted(task: WorkloadTask, largest: Mapping[str, int]) -> WorkloadTask:
    """Return a task that asks for no more than a worker has: mixes are made for machines, and there may be laptops.

    What the worker does not offer at all is not asked for. Work that holds or writes more than is left holds less.

    Args:
        task: As it was drawn.
        largest: What the worker offers, in millicores and MiB.
    """
    if all(amount <= largest.get(name, 0) for name, amount in task.resources.items()):
        return task
    resources = {name: min(amount, largest[name]) for name, amount in task.resources.items() if name in largest}
    mib_max = max(0, resources["memory"] - PROGRAM_MIB) if "memory" in resources else task.work.mib
    return replace(task, resources=resources, work=replace(task.work, mib=min(task.work.mib, mib_max)))
