"""What is asked for, interned: requests that want the same share one `Demand`, with its indexes and its waiters.

A demand decides once for each set of tags that workers have; which sets come into question is looked up by the
rarest tag that it requires. Demands that nobody has used for a while make room for others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import Final

from rota.core.advisor.index import RISING, RankIndex
from rota.core.advisor.model import AdvisedWorker, Ticket, WorkerGroup, check_wish, is_plain_tag
from rota.core.errors import Overloaded
from rota.core.tags import TagFilter

__all__ = ["DEMANDS_MAX", "Demand", "Demands"]

DEMANDS_MAX: Final = 256
"""Different ones that are remembered: a heartbeat is told to each that its worker could serve."""

DEMANDS_MIN: Final = 16
ENTRIES_MAX: Final = 1_000_000
"""Of workers in the indexes of all demands, some 200 bytes each: with many workers fewer demands are remembered."""

SPELLINGS_MAX: Final = 4_096
"""Ways to say the same that are remembered; to read one anew costs some microseconds."""

Resources = tuple[tuple[str, int], ...]
Rank = tuple[int, Ticket]
_Spelling = tuple[tuple[str, ...], Resources, str]


class Demand:
    """Requests that differ in nothing that matters for placement. ``tiers`` go by preferred tags, the best first."""

    __slots__ = ("_queue", "filter", "is_used", "placement", "plain", "resources", "tiers", "waiting")

    def __init__(self, wishes: frozenset[str], resources: Resources, placement: str, rng: random.Random) -> None:
        self.filter = TagFilter(wishes)
        self.plain = sorted(wish for wish in wishes if is_plain_tag(wish))
        self.resources = resources
        self.placement = placement
        preferred = sum(wish.endswith("~") for wish in wishes if not is_plain_tag(wish))
        self.tiers = [RankIndex(placement, resources, rng) for _ in range(preferred + 1)]
        self.is_used = True
        self.waiting: dict[Ticket, int] = {}
        self._queue: list[Rank] = []

    def tier_of(self, group: WorkerGroup) -> RankIndex | None:
        """Where workers of a group stand; ``None`` if they can't have the task."""
        if not self.filter.accepts(group.tags):
            return None
        if len(self.tiers) == 1:
            return self.tiers[0]
        return self.tiers[len(self.tiers) - 1 - self.filter.preference(group.tags)]

    def queue(self, ticket: Ticket, priority: int) -> None:
        """Let somebody wait."""
        self.waiting[ticket] = priority
        heappush(self._queue, (-priority, ticket))
        if len(self._queue) > 2 * len(self.waiting) + 16:  # most have gone
            self._queue = [(-priority, ticket) for ticket, priority in self.waiting.items()]
            heapify(self._queue)

    def first_waiting(self) -> Rank | None:
        """Who is served next: the highest priority, then the first to come."""
        while self._queue and self._queue[0][1] not in self.waiting:
            heappop(self._queue)
        return self._queue[0] if self._queue else None


class Demands:
    """All demands and groups, and who of them has to do with whom."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._spellings: dict[_Spelling, Demand] = {}
        self._demands: dict[tuple[frozenset[str], Resources, str], Demand] = {}
        self._groups: dict[frozenset[str], WorkerGroup] = {}
        self._groups_with: dict[str, dict[WorkerGroup, None]] = {}
        self._places: dict[WorkerGroup, list[tuple[Demand, RankIndex]]] = {}
        self._rising: dict[WorkerGroup, list[RankIndex]] = {}

    def __len__(self) -> int:
        return len(self._demands)

    def __iter__(self) -> Iterator[Demand]:
        return iter(self._demands.values())

    def find(self, tags: list[str], resources: Mapping[str, int] | None, placement: str, workers: int) -> Demand:
        """Return the demand of a request, as it is spelled. ``workers`` is how many there are.

        Raises:
            TagSyntaxError: A tag is an expression that makes no sense.
            Overloaded: There are too many demands for which somebody waits.
        """
        spelling = (tuple(tags), tuple(sorted(resources.items())) if resources else (), placement)
        demand = self._spellings.get(spelling)
        if demand is None:
            demand = self._read(spelling, workers)
        demand.is_used = True
        return demand

    def places(self, worker: AdvisedWorker) -> list[tuple[Demand, RankIndex]]:
        """The demands that a worker could serve, each with the index in which it stands."""
        return self._places[worker.group]

    def rising(self, worker: AdvisedWorker) -> list[RankIndex]:
        """The indexes that must hear of it when the worker gets a task."""
        return self._rising[worker.group]

    def join(self, tags: frozenset[str]) -> WorkerGroup:
        """The group of workers with these tags; a new one is made known to all demands."""
        group = self._groups.get(tags)
        if group is None:
            group = self._groups[tags] = WorkerGroup(tags)
            for tag in tags:
                self._groups_with.setdefault(tag, {})[group] = None
            self._places[group] = []
            self._rising[group] = []
            for demand in self._demands.values():
                self._place(demand, group)
        return group

    def leave(self, worker: AdvisedWorker) -> None:
        """Take a worker out of everything; its group goes with the last of its workers."""
        group = worker.group
        for _, index in self._places[group]:
            index.discard(worker)
        del group.members[worker]
        if group.members:
            return
        del self._groups[group.tags], self._places[group], self._rising[group]
        for tag in group.tags:
            groups = self._groups_with[tag]
            del groups[group]
            if not groups:
                del self._groups_with[tag]

    def _read(self, spelling: _Spelling, workers: int) -> Demand:
        tags, resources, placement = spelling
        key = (frozenset(map(check_wish, tags)), resources, placement)
        demand = self._demands.get(key)
        if demand is None:
            if len(self._demands) >= max(DEMANDS_MIN, min(DEMANDS_MAX, ENTRIES_MAX // max(1, workers))):
                self._make_room()
            demand = self._demands[key] = Demand(*key, self._rng)
            for group in self._candidates(demand):
                self._place(demand, group)
        if len(self._spellings) >= SPELLINGS_MAX:
            self._spellings.clear()
        self._spellings[spelling] = demand
        return demand

    def _candidates(self, demand: Demand) -> list[WorkerGroup]:
        """The groups that may have what a demand requires, by the rarest of its tags."""
        if not demand.plain:
            return list(self._groups.values())
        by_tag: list[dict[WorkerGroup, None]] = [self._groups_with.get(tag, {}) for tag in demand.plain]
        rarest = min(by_tag, key=len)
        return list(rarest)

    def _place(self, demand: Demand, group: WorkerGroup) -> None:
        index = demand.tier_of(group)
        if index is None:
            return
        self._places[group].append((demand, index))
        if demand.placement in RISING:
            self._rising[group].append(index)
        for worker in group.members:
            index.offer(worker)

    def _make_room(self) -> None:
        """Forget the demands that nobody has used since the last time, or else the oldest half."""
        idle = [key for key, demand in self._demands.items() if not demand.waiting]
        if not idle:
            raise Overloaded("requests of too many different kinds wait for room: try again in a moment")
        unused = [key for key in idle if not self._demands[key].is_used] or idle[: len(idle) // 2 + 1]
        gone = {self._demands.pop(key) for key in unused}
        for demand in self._demands.values():
            demand.is_used = False
        self._spellings = {text: demand for text, demand in self._spellings.items() if demand not in gone}
        for group, places in self._places.items():
            places[:] = [place for place in places if place[0] not in gone]
            self._rising[group] = [index for demand, index in places if demand.placement in RISING]
