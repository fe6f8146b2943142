"""By which index of workers each room is placed, and how it comes to know who gained room.

Who is freed is written down once, and a room reads on when it is looked at: to tell every shape at once was two thirds
of all work with 100 shapes. Where a policy orders workers alike for all shapes, a room first takes a few looks at that
common order; only what finds nobody there has an index of its own made, of those alone that can hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rota.core.model import WorkerId
from rota.core.workers import Worker

if TYPE_CHECKING:
    from rota.core.cluster import Room
    from rota.core.placement.base import CommonOrder, HasRoom, PlacementPolicy, RoomIndex
    from rota.core.placement.placements import Placements

__all__ = ["INDEXES", "Indexes", "RoomView", "indexes_max", "offer_to"]

INDEXES: Final = (128, 256)
"""Indexes of their own that are kept for shapes that don't wait, at least and at most."""

INDEX_ENTRIES_MAX: Final = 1_000_000
"""Workers in all of these together, 130 bytes each. To make one anew takes 1 ms for 1,000 workers, and where shapes
take turns the one that was dropped is the next that is wanted: with 10,000 workers and 64 indexes for 100 shapes a task
took seven times as long as with an index for each."""

FREED_MIN: Final = 1024
"""So many who were freed are remembered, or as many as there are workers: to read on from before costs more than to
look at all of them anew."""


class Indexes:
    """The indexes of all rooms.

    ``kept`` are the rooms that have one of their own though nothing waits for them, the one used last at the end.

    Args:
        placements: Who makes them.
        workers: All that there are, as the cluster has them.
    """

    def __init__(self, placements: Placements, workers: Mapping[WorkerId, Worker]) -> None:
        self._placements = placements
        self._workers = workers
        self._orders: dict[PlacementPolicy, CommonOrder | None] = {}
        self._freed = _Freed()
        self.kept: dict[Room, None] = {}

    def of(self, room: Room) -> RoomView:
        """The index of a room that is to be placed. O(workers) when it is first asked, and finds nobody by looking."""
        if room.index is None:
            order = None if room.filter.has_preferences else self._order_of(room.policy)
            room.index = RoomView(room, order, self._freed, self._make)
        return room.index

    def keep(self, room: Room, index: RoomView) -> None:
        """Keep the index of a room for which nothing waits any more, in place of the oldest."""
        room.index = index
        self.kept.pop(room, None)
        if not index.has_own:
            return
        self.kept[room] = None
        if len(self.kept) > indexes_max(len(self._workers)):
            oldest = next(iter(self.kept))
            del self.kept[oldest]
            oldest.index = None

    def note_freed(self, freed: Sequence[Worker]) -> None:
        """Write down which workers gained room, or came."""
        for order in self._orders.values():
            if order is not None:
                for worker in freed:
                    if worker.is_open:
                        order.offer(worker)
        self._freed.add(freed, keep=max(FREED_MIN, len(self._workers)))

    def drop(self, room: Room) -> None:
        """Forget the index of a room."""
        room.index = None
        self.kept.pop(room, None)

    def drop_all(self, rooms: Iterable[Room]) -> None:
        """Forget what is known of who has room, of all the rooms that there are: whatever order they are placed by."""
        for room in rooms:
            room.index = None
        self.kept.clear()
        self._orders.clear()

    def _make(self, room: Room) -> RoomIndex:
        return self._placements.make_index(room, [worker for worker in self._workers.values() if room.fits_now(worker)])

    def _order_of(self, policy: PlacementPolicy) -> CommonOrder | None:
        if policy not in self._orders:
            order = self._orders[policy] = policy.make_order()
            for worker in self._workers.values() if order is not None else ():
                if order is not None and worker.is_open:
                    order.offer(worker)
        return self._orders[policy]


class _Freed:
    """The workers that were freed last, in order, numbered from ``first`` to before ``end``."""

    __slots__ = ("_workers", "end", "first")

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self.first = 0
        self.end = 0

    def add(self, workers: Iterable[Worker], *, keep: int) -> None:
        """Write down some more; forget old ones when there are twice as many as are to be kept."""
        self._workers += workers
        self.end = self.first + len(self._workers)
        if len(self._workers) > 2 * keep:
            surplus = len(self._workers) - keep
            del self._workers[:surplus]
            self.first += surplus

    def since(self, number: int) -> Iterable[Worker]:
        """Each of those from ``number`` on, once."""
        return dict.fromkeys(self._workers[number - self.first :])


class RoomView:
    """What one room is placed by: the common order, if there is one, and an index of its own where looks find nobody.

    Its own index is brought up to date when it is asked, never before: most rooms are not looked at most of the time.
    Once it is, and for as long as nobody is freed, there is no need for looks.
    """

    __slots__ = ("_freed", "_make", "_order", "_own", "_room", "_seen")

    def __init__(self, room: Room, order: CommonOrder | None, freed: _Freed, make: Callable[[Room], RoomIndex]) -> None:
        self._room = room
        self._order = order
        self._freed = freed
        self._make = make
        self._own: RoomIndex | None = None
        self._seen = 0

    @property
    def has_own(self) -> bool:
        """Whether it holds more than a few words."""
        return self._own is not None

    def offer(self, worker: Worker) -> None:
        if self._order is not None:
            self._order.offer(worker)
        if self._own is not None:
            self._own.offer(worker)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        own = self._own
        if own is None or self._seen != self._freed.end:
            worker = None if self._order is None else self._order.look(has_room)
            if worker is not None:
                return worker
            own = self._own = self._caught_up(own)
        return own.choose(key, has_room)

    def _caught_up(self, own: RoomIndex | None) -> RoomIndex:
        """The index of its own as of now."""
        seen, self._seen = self._seen, self._freed.end
        if own is None or seen < self._freed.first:
            return self._make(self._room)
        fits_now, offer = self._room.fits_now, own.offer
        for worker in self._freed.since(seen):
            if fits_now(worker):
                offer(worker)
        return own


def indexes_max(workers: int) -> int:
    """How many indexes are kept for shapes that don't wait, with so many workers."""
    least, most = INDEXES
    return min(most, max(least, INDEX_ENTRIES_MAX // max(1, workers)))


def offer_to(room: Room, workers: Iterable[Worker]) -> None:
    """Let the index of a room know of workers that can hold it again without having been freed."""
    if room.index is not None:
        for worker in workers:
            if room.fits_now(worker):
                room.index.offer(worker)
