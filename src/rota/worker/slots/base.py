"""The port between the agent and what runs its attempts."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from rota.core.model import AttemptKey, LaneId, TaskId
from rota.core.protocol import Ended, OutputChunk, Started

__all__ = ["SlotEvents", "Work"]


class Work(Struct, frozen=True):
    """An attempt to run in a lane, after those that stand there already.

    ``spec`` is encoded; ``devices`` are the indices of the lane's GPUs.
    """

    key: AttemptKey
    lane: LaneId
    id: TaskId
    spec: bytes
    devices: tuple[int, ...] = ()


class SlotEvents(Protocol):
    """Who is told what happens in the slots, on the event loop, once for each of its turns."""

    def on_events(self, started: list[Started], ended: list[Ended], output: list[OutputChunk]) -> None:
        """Take what has happened since the last call, each list in its order.

        An attempt that ends within 20 ms is never in ``started``. Output of an attempt comes in this
        call or an earlier one than its end. If both streams had at most 4 KiB, its end holds them whole, even
        where pieces were handed on while it ran.
        """
        ...

    def on_quarantined(self, lane: LaneId, message: str) -> None:
        """Hear that the lane's slot is lost: processes of an attempt could not be removed."""
        ...
