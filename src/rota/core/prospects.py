"""A worker as it would be if some of its lanes were closed, or one more were open: is there room for a shape then?

Nothing is changed by asking. Everything counts that counts for a lane: amounts, cards, how many tasks a worker may
have, and what is reserved for others.
"""

from __future__ import annotations

from rota.core.cluster import Room
from rota.core.reservations import Kept
from rota.core.resources import GPU
from rota.core.workers import Lane, Worker

__all__ = ["Prospect"]


class Prospect:
    """What a worker has left for one shape. Making one costs O(lanes) where something is reserved, else O(1)."""

    __slots__ = ("_devices", "_free", "_kept", "_room", "_slots")

    def __init__(self, worker: Worker, room: Room) -> None:
        self._room = room
        self._free = dict(worker.ledger.free)
        self._devices = worker.ledger.devices.copy()
        self._slots = worker.max_tasks - worker.quarantined - len(worker.lanes)
        self._kept: list[tuple[Kept, dict[str, int]]] = [
            (kept, kept.used(worker.lanes.values())) for kept in worker.kept if not kept.is_for(room)
        ]

    def copy(self) -> Prospect:
        """The same prospect, to go on from in another way."""
        copy = object.__new__(Prospect)
        copy._room, copy._slots = self._room, self._slots
        copy._free, copy._devices = dict(self._free), self._devices.copy()
        copy._kept = [(kept, dict(used)) for kept, used in self._kept]
        return copy

    def close(self, lane: Lane) -> None:
        """Suppose that a lane were closed."""
        self._devices.give_back(lane.devices, lane.room.cards, lane.room.memory_mib)
        self._count(lane.room, -1)

    def reopen(self, lane: Lane) -> None:
        """Take that back."""
        self._devices.take(lane.devices, lane.room.cards, lane.room.memory_mib)
        self._count(lane.room, 1)

    def open(self, room: Room) -> None:
        """Suppose that a lane of some shape, for which there is room, were opened."""
        devices = self._devices.find(room.cards, room.memory_mib)
        self._devices.take(devices or (), room.cards, room.memory_mib)
        self._count(room, 1)

    def has_room(self) -> bool:
        """Say whether the shape would have room."""
        room, devices = self._room, self._devices
        if self._slots <= 0 or (room.needs_cards and devices.find(room.cards, room.memory_mib) is None):
            return False
        if not self._kept:
            return all(self._free.get(name, 0) >= amount for name, amount in room.plain)
        free = {**self._free, GPU: devices.untouched_count()}
        for kept, used in self._kept:
            for name, amount in kept.reservation.resources.items():
                free[name] = free.get(name, 0) - max(0, amount - used.get(name, 0))
        needed = (*room.plain, (GPU, devices.untouched_needed(room.cards, room.memory_mib)))
        return all(free.get(name, 0) >= amount for name, amount in needed if amount)

    def _count(self, room: Room, lanes: int) -> None:
        """Count so many lanes more."""
        self._slots -= lanes
        for name, amount in room.plain:
            self._free[name] = self._free.get(name, 0) - lanes * amount
        for kept, used in self._kept:
            if kept.is_for(room):
                for name, amount in room.shape.resources:
                    used[name] = used.get(name, 0) + lanes * amount
