"""Choosing workers for many tasks, one after another: whoever asks for the next has given the last one its lane."""

from __future__ import annotations

from collections.abc import Iterator

from rota.core.pending import Group
from rota.core.placement.base import HasRoom, RoomIndex
from rota.core.workers import Worker

__all__ = ["choices"]


def choices(group: Group, index: RoomIndex, has_room: HasRoom, *, count: int) -> Iterator[tuple[Worker, str]]:
    """Yield a worker, and the key that led to it, for each of the first tasks of a group, until nobody has room."""
    policy, choose = group.room.policy, index.choose
    if policy.looks_at_tasks:
        for task in group.first(count):
            key = policy.key_of(task)
            worker = choose(key, has_room)
            if worker is None:
                return
            yield worker, key
    else:
        for _ in range(count):
            worker = choose("", has_room)
            if worker is None:
                return
            yield worker, ""
