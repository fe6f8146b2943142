"""The port of a placement policy: which of the workers that fit gets the next lane of a shape.

Others may write policies of their own, in packages of their own: a subclass of `PlacementPolicy`, named by an entry
point of the group ``rota.placement``. See ``docs/placement.md``.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Protocol

from rota.core.cluster import Room
from rota.core.task import Task
from rota.core.workers import Worker

__all__ = ["LOOKS", "CommonOrder", "HasRoom", "PlacementPolicy", "RoomIndex"]

HasRoom = Callable[[Worker], bool]

LOOKS: Final = 8
"""Into a common order. A cluster of which a tenth has room answers most shapes in so many, at 0.5 µs each."""


class RoomIndex(Protocol):
    """The workers that may have room for one shape, as one policy wants them ordered.

    The cluster offers a worker whenever it gained room (or came); it need not say when room
    was lost, because `choose` asks ``has_room`` before it returns anybody.
    """

    def offer(self, worker: Worker) -> None:
        """Note that the worker may have room now. Cheap, and harmless if it was noted before."""
        ...

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        """Return the best worker for which ``has_room`` holds, or ``None``.

        A worker that was refused is forgotten until it is offered again. The one that is
        returned stays noted: the caller may choose it again for as long as it has room.
        ``key`` is what `PlacementPolicy.key_of` gave for the task.
        """
        ...


class CommonOrder(Protocol):
    """All open workers, as a policy orders them for every shape alike."""

    def offer(self, worker: Worker) -> None:
        """Note that the worker came, or gained room. Cheap, and harmless if it was noted before."""
        ...

    def look(self, has_room: HasRoom) -> Worker | None:
        """Return who `RoomIndex.choose` would return, or ``None`` if a few looks don't tell.

        Whoever has no room stays noted, since others may want less.
        """
        ...

    def __len__(self) -> int:
        """How many workers are noted."""
        ...


class PlacementPolicy(ABC):
    """A policy is asked for one index a shape. It must be deterministic but for ``rng``."""

    name: ClassVar[str]
    """What users call it: lower case, with hyphens."""

    looks_at_tasks: ClassVar[bool] = False
    """Whether it matters which task of a shape is placed. Then each has a lane of its own: one that stood in line
    behind others would run where these are."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    @property
    def trouble(self) -> str | None:
        """What people who wait for it should know of it; nothing of a policy that does what it should."""
        return None

    @abstractmethod
    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:
        """Make an index for a shape that has noted these workers, which have room for it. O(workers)."""

    def make_order(self) -> CommonOrder | None:
        """Make the order that all shapes share, where the policy has one; else each has an index of its own."""
        return None

    watches_lanes: ClassVar[bool] = False
    """Whether a worker may become a better choice by what it is given: then `lane_opened` is told of each lane."""

    def key_of(self, task: Task) -> str:  # noqa: ARG002 - most policies look at no task
        """What of a task matters to the policy. Asked only where it looks at tasks."""
        return ""

    def lane_opened(self, worker: Worker) -> None:  # noqa: B027 - most policies have nothing to do
        """Note that a lane was opened on a worker, by whatever policy. Told only where the policy watches lanes."""

    def opened(self, worker: Worker, key: str) -> None:  # noqa: B027 - most policies have nothing to note
        """Note that a task with this key was given a lane. Told only where the policy looks at tasks."""

    def closed(self, worker: Worker, key: str) -> None:  # noqa: B027 - as above
        """Note that such a lane is gone."""
