"""Reservations: resources of some workers that are kept for a queue, or for tasks that claim them, for a span of time.

While one is in force, its workers give others only what is left beside it: what is kept, less what those it is for have
there already. What runs when it begins is not stopped, so it fills up as that ends. A worker that comes takes the place
of one that went. No worker promises more than it has: of several reservations the one that began first comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct, field

from rota.core.model import Setting
from rota.core.resources import GPU
from rota.core.tags import TagFilter

if TYPE_CHECKING:
    from rota.core.cluster import Cluster, Room
    from rota.core.workers import Lane, Worker

__all__ = [
    "RESERVATION_KIND",
    "Kept",
    "Reservation",
    "Reservations",
    "could_fit_beside",
    "fits_beside",
    "is_owed",
]

RESERVATION_KIND: Final = "reservation"
"""Of the settings that a store keeps."""

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Reservation(Struct, frozen=True, omit_defaults=True):
    """What an operator reserves.

    ``resources`` are kept on each of up to ``workers`` workers (all if not given) whose tags are as ``tags`` say, for
    tasks of ``queue``, and for those with the label ``reservation`` of its name. Times are wall-clock.
    """

    start_at: float
    end_at: float
    resources: dict[str, int] = field(default_factory=dict)
    queue: str | None = None
    tags: tuple[str, ...] = ()
    workers: int | None = None


class Kept:
    """One reservation in force on one worker."""

    __slots__ = ("name", "reservation")

    def __init__(self, name: str, reservation: Reservation) -> None:
        self.name = name
        self.reservation = reservation

    def is_for(self, room: Room) -> bool:
        """Whether tasks of a room may have what is kept."""
        return room.queue.name == self.reservation.queue or room.shape.claim == self.name

    def used(self, lanes: Iterable[Lane]) -> dict[str, int]:
        """What those it is for have in some lanes. O(lanes)."""
        used: dict[str, int] = {}
        for lane in lanes:
            if self.is_for(lane.room):
                for name, amount in lane.room.shape.resources:
                    used[name] = used.get(name, 0) + amount
        return used

    def unused(self, worker: Worker) -> dict[str, int]:
        """What nobody that it is for has yet. O(lanes of the worker)."""
        used = self.used(worker.lanes.values())
        return {name: max(0, amount - used.get(name, 0)) for name, amount in self.reservation.resources.items()}


class Reservations:
    """All reservations by name, and which are in force where."""

    def __init__(self) -> None:
        self._all: dict[str, Reservation] = {}
        self._seated_for: tuple[int, frozenset[str]] = (0, frozenset())
        self._has_changed = False

    def __bool__(self) -> bool:
        return bool(self._all)

    def find(self, name: str) -> Reservation | None:
        """The reservation of this name."""
        return self._all.get(name)

    def all(self) -> list[tuple[str, Reservation]]:
        """All of them, in order of their names."""
        return sorted(self._all.items(), key=lambda pair: pair[0])

    def set(self, name: str, reservation: Reservation) -> Setting:
        """Add one under a name that is free; return what a store keeps of it."""
        self._all[name] = reservation
        self._has_changed = True
        return Setting(RESERVATION_KIND, name, _encode(reservation).decode())

    def remove(self, name: str) -> bool:
        """Remove one; return whether it was there."""
        self._has_changed = True
        return self._all.pop(name, None) is not None

    def restore(self, setting: Setting) -> Reservation:
        """Take in what the store has kept."""
        reservation = msgspec.json.decode(setting.data, type=Reservation)
        self.set(setting.name, reservation)
        return reservation

    def over(self, wall: float) -> list[str]:
        """Those whose time is over."""
        return [name for name, reservation in self.all() if reservation.end_at <= wall]

    def seat(self, cluster: Cluster, wall: float) -> None:
        """Put those in force on workers, if anything of that has changed. O(reservations × workers) then, else O(1)."""
        if not (self._all or self._has_changed):
            return
        in_force = [(name, one) for name, one in self.all() if one.start_at <= wall < one.end_at]
        in_force.sort(key=lambda pair: pair[1].start_at)
        key = cluster.version, frozenset(name for name, _ in in_force)
        if key == self._seated_for and not self._has_changed:
            return
        self._seated_for, self._has_changed = key, False
        kept: dict[Worker, list[Kept]] = {}
        left = {
            worker: {**worker.ledger.capacity, GPU: len(worker.offer.gpus)}
            for worker in cluster.workers.values()
            if worker.is_open
        }
        for name, reservation in in_force:
            for worker in _choose(reservation, name, left):
                kept.setdefault(worker, []).append(Kept(name, reservation))
                _take(left[worker], reservation.resources)
        for worker in cluster.workers.values():
            before, worker.kept = worker.kept, tuple(kept.get(worker, ()))
            if before:
                cluster.freed[worker] = None  # others may have what was kept there


def fits_beside(worker: Worker, room: Room) -> bool:
    """Whether a worker with reservations has room for a shape besides what is kept for others."""
    free, devices, kept = worker.ledger.free, worker.ledger.devices, _kept_from(worker, room)
    if room.needs_cards and kept.get(GPU):
        needed = devices.untouched_needed(room.cards, room.memory_mib)
        if needed and devices.untouched_count() - needed < kept[GPU]:
            return False
    return all(free.get(name, 0) - amount >= kept.get(name, 0) for name, amount in room.plain)


def could_fit_beside(worker: Worker, room: Room) -> bool:
    """Whether a worker would have room for a shape besides what is kept for others, if it were empty."""
    left = {**worker.ledger.capacity, GPU: len(worker.offer.gpus)}
    for one in worker.kept:
        if not one.is_for(room):
            _take(left, one.reservation.resources)
    needed = (*room.plain, (GPU, room.cards or int(room.needs_cards)))
    return all(left.get(name, 0) >= amount for name, amount in needed if amount)


def is_owed(worker: Worker, room: Room) -> bool:
    """Whether a worker has less free than it keeps for others than a shape: so the lanes of that must end."""
    free = {**worker.ledger.free, GPU: worker.ledger.devices.untouched_count()}
    return any(amount > free.get(name, 0) for name, amount in _kept_from(worker, room).items())


def _kept_from(worker: Worker, room: Room) -> dict[str, int]:
    """What a worker keeps for others than a shape, and they don't have yet."""
    kept: dict[str, int] = {}
    for one in worker.kept:
        if not one.is_for(room):
            for name, amount in one.unused(worker).items():
                kept[name] = kept.get(name, 0) + amount
    return kept


def _choose(reservation: Reservation, name: str, left: Mapping[Worker, dict[str, int]]) -> list[Worker]:
    """The workers that keep it, of those that have so much ``left`` to promise.

    Those that have it already come first, then the ones with most of it free.
    """
    tags = TagFilter(reservation.tags)
    able = [
        worker
        for worker, amounts in left.items()
        if tags.accepts(worker.tags) and all(amounts.get(n, 0) >= amount for n, amount in reservation.resources.items())
    ]
    able.sort(
        key=lambda worker: (
            not any(one.name == name for one in worker.kept),
            -tags.preference(worker.tags),
            worker.ledger.load,
            worker.id,
        )
    )
    return able[: reservation.workers]


def _take(left: dict[str, int], amounts: Mapping[str, int]) -> None:
    for name, amount in amounts.items():
        left[name] = left.get(name, 0) - amount
