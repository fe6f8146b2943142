"""The port of a placement policy: which of the workers that fit gets the next lane of a shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rota.core.cluster import Worker

__all__ = ["PlacementPolicy", "RoomIndex"]


class RoomIndex(Protocol):
    """The workers that may have room for one shape, as one policy wants them ordered.

    The cluster offers a worker whenever it gained room (or came); it need not say when room
    was lost, because `choose` asks ``has_room`` before it returns anybody.
    """

    def offer(self, worker: Worker) -> None:
        """Note that the worker may have room now. Cheap, and harmless if it was noted before."""
        ...

    def choose(self, has_room: Callable[[Worker], bool]) -> Worker | None:
        """Return the best worker for which ``has_room`` holds, or ``None``.

        A worker that was refused is forgotten until it is offered again. The one that is
        returned stays noted: the caller may choose it again for as long as it has room.
        """
        ...


class PlacementPolicy(Protocol):
    """A policy is asked for one index a shape."""

    @property
    def name(self) -> str: ...

    def make_index(self, workers: Sequence[Worker]) -> RoomIndex:
        """Make an index that has noted these workers, which have room. O(workers)."""
        ...
