"""Ordering: which pending task goes first.

Tasks of one shape that share a *stream* wait in one line, first come first served. A policy ranks lines by their first
task. Ranks of ``fcfs`` and ``priority`` never change while a task waits: what ages together keeps its order, so ageing
needs no clock. Those of ``fair`` rise as their queue is given something.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from rota.core.model import Amounts, TaskSeq, Terms
from rota.core.queues import Queues

__all__ = [
    "ORDERINGS",
    "Arrivals",
    "FairOrdering",
    "FcfsOrdering",
    "Known",
    "Ordering",
    "OrderingFactory",
    "PriorityOrdering",
    "Rank",
    "TaskStream",
    "stream_of",
]

ARRIVALS_MAX: Final = 20_000
"""Moments of arrival that are remembered; beyond, every second one of them is forgotten."""

ARRIVALS_APART_S: Final = 1.0
"""What arrives within this time counts as having arrived together."""


class TaskStream(NamedTuple):
    """What tasks of one line have in common, besides their shape."""

    queue: str
    priority: int
    limits: Amounts


Rank = tuple[float, float, TaskSeq]
"""Lines are served from the lowest rank. The last part is their first task's number."""


def stream_of(terms: Terms) -> TaskStream:
    """The stream of tasks with these terms."""
    return TaskStream(terms.queue, terms.priority, terms.limits)


class Arrivals:
    """When tasks came, by their numbers, on the steady clock: one entry for all that came within a second."""

    __slots__ = ("_seqs", "_times")

    def __init__(self) -> None:
        self._seqs: list[TaskSeq] = []
        self._times: list[float] = []

    def note(self, seq: TaskSeq, at: float) -> None:
        """Note that a task came, and all later ones after it. Numbers rise."""
        if self._times and at - self._times[-1] < ARRIVALS_APART_S:
            return
        self._seqs.append(seq)
        self._times.append(at)
        if len(self._seqs) > ARRIVALS_MAX:
            del self._seqs[1::2], self._times[1::2]

    def at(self, seq: TaskSeq) -> float:
        """When a task came, not later than it did, and up to a second sooner."""
        index = bisect_right(self._seqs, seq) - 1
        return self._times[max(index, 0)] if self._times else 0.0


class Known(NamedTuple):
    """What orderings go by: ``ageing`` is in points a minute, ``capacity`` gives what the cluster has in all."""

    queues: Queues
    arrivals: Arrivals
    ageing: float
    capacity: Callable[[], Mapping[str, int]]


class Ordering(Protocol):
    """A policy says which line is served first."""

    @property
    def name(self) -> str: ...

    @property
    def ranks_move(self) -> bool:
        """Whether the rank of a line changes by what others are given, or end."""
        ...

    def rank(self, stream: TaskStream, head: TaskSeq) -> Rank:
        """Return the place of a line among all lines, given the number of its first task. O(1)."""
        ...


class FcfsOrdering:
    """First come, first served, whatever the priority."""

    name = "fcfs"
    ranks_move = False

    def __init__(self, known: Known) -> None:
        del known

    def rank(self, stream: TaskStream, head: TaskSeq) -> Rank:  # noqa: ARG002 - who came first is all that counts
        return (0.0, 0.0, head)


class PriorityOrdering:
    """Higher priority first, then first come. With ageing, a task that waits gains ``ageing`` points a minute.

    All that wait age alike, so who came ``t`` minutes before another is ahead of it by ``t × ageing`` points for
    good: no task waits for ever behind others that come later, whatever their priority.
    """

    name = "priority"
    ranks_move = False

    def __init__(self, known: Known) -> None:
        self._arrivals = known.arrivals
        self._per_s = known.ageing / 60.0

    def rank(self, stream: TaskStream, head: TaskSeq) -> Rank:
        aged = self._per_s * self._arrivals.at(head) if self._per_s else 0.0
        return (aged - stream.priority, 0.0, head)


class FairOrdering:
    """The queue that has least of the cluster first, by its weight; within a queue by priority, or first come.

    What a queue has is the share of the resource of which it has the largest share. A queue that is not given what
    it could use is the next one, so shares come to be as the weights are.

    References:
        A. Ghodsi et al., "Dominant Resource Fairness: Fair Allocation of Multiple Resource Types", NSDI 2011.
    """

    name = "fair"
    ranks_move = True

    def __init__(self, known: Known) -> None:
        self._queues = known.queues
        self._capacity = known.capacity
        self._within = PriorityOrdering(known)

    def rank(self, stream: TaskStream, head: TaskSeq) -> Rank:
        queue = self._queues.get(stream.queue)
        capacity = self._capacity()
        share = max((used / capacity[name] for name, used in queue.used.items() if capacity.get(name)), default=0.0)
        inner = 0.0 if queue.settings.ordering == FcfsOrdering.name else self._within.rank(stream, head)[0]
        return (share / queue.settings.weight, inner, head)


OrderingFactory = Callable[[Known], Ordering]

ORDERINGS: Final[Mapping[str, OrderingFactory]] = MappingProxyType(
    {
        FcfsOrdering.name: FcfsOrdering,
        PriorityOrdering.name: PriorityOrdering,
        FairOrdering.name: FairOrdering,
    }
)
"""By the names that users know: made with the queues, the arrivals, the ageing in points a minute, and what the
cluster has."""
