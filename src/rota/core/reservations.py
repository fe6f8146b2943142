"""Reservations: resources of some workers that are kept for a queue, or for tasks that claim them, for a span of time.

While one is in force, its workers give others only what is left beside it: what is kept, less what those it is for have
there already. What runs when it begins is not stopped, so it fills up as that ends. A worker that comes takes the place
of one that went.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct, field

from rota.core.model import Setting
from rota.core.resources import GPU
from rota.core.tags import TagFilter

if TYPE_CHECKING:
    from rota.core.cluster import Cluster, Room, Worker

__all__ = ["RESERVATION_KIND", "Kept", "Reservation", "Reservations", "fits_beside"]

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

    def unused(self, worker: Worker) -> Mapping[str, int]:
        """What nobody that it is for has yet. O(lanes of the worker)."""
        left = dict(self.reservation.resources)
        for lane in worker.lanes.values():
            if self.is_for(lane.room):
                for name, amount in lane.room.shape.resources:
                    if name in left:
                        left[name] = max(0, left[name] - amount)
        return left


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
        """Add one, or put it in the place of another; return what a store keeps of it."""
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
        key = cluster.version, frozenset(name for name, _ in in_force)
        if key == self._seated_for and not self._has_changed:
            return
        self._seated_for, self._has_changed = key, False
        kept: dict[Worker, list[Kept]] = {}
        for name, reservation in in_force:
            for worker in _choose(reservation, name, cluster):
                kept.setdefault(worker, []).append(Kept(name, reservation))
        for worker in cluster.workers.values():
            before, worker.kept = worker.kept, tuple(kept.get(worker, ()))
            if before:
                cluster.freed[worker] = None  # others may have what was kept there


def fits_beside(worker: Worker, room: Room) -> bool:
    """Whether a worker with reservations has room for a shape besides what is kept for others."""
    free = worker.ledger.free
    kept: dict[str, int] = {}
    for one in worker.kept:
        if not one.is_for(room):
            for name, amount in one.unused(worker).items():
                kept[name] = kept.get(name, 0) + amount
    cards = len(worker.offer.gpus) - worker.ledger.devices.taken_count()
    if room.cards and cards - room.cards < kept.get(GPU, 0):
        return False
    return all(free.get(name, 0) - amount >= kept.get(name, 0) for name, amount in room.plain)


def _choose(reservation: Reservation, name: str, cluster: Cluster) -> list[Worker]:
    """The workers that keep it: those that have it already first, then the ones with most of it free."""
    tags = TagFilter(reservation.tags)
    able = [
        worker
        for worker in cluster.workers.values()
        if worker.is_open and tags.accepts(worker.tags) and _could_keep(worker, reservation)
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


def _could_keep(worker: Worker, reservation: Reservation) -> bool:
    capacity = {**worker.ledger.capacity, GPU: len(worker.offer.gpus)}
    return all(capacity.get(name, 0) >= amount for name, amount in reservation.resources.items())
