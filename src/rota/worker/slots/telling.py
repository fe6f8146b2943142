"""Gathers what slots report, so that the agent hears of it once in a turn of the loop, or a moment later.

Each telling costs a report of the agent's and a share of a commit of the coordinator's; waiting costs whoever
waits for the result. So each part says how long it may wait, and what can't wait takes along all that does.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from rota.core.model import AttemptKey
from rota.core.protocol import Ended, OutputChunk, Started
from rota.worker.slots.base import SlotEvents

__all__ = ["Teller"]


class Teller:
    """What is to be told, in order, until it is told."""

    def __init__(self, events: SlotEvents) -> None:
        self._events = events
        self._started: list[Started] = []
        self._ended: list[Ended] = []
        self._output: list[OutputChunk] = []
        self._delivery: asyncio.Handle | None = None
        self._due_at = math.inf

    def add(self, started: Sequence[Started], ended: Sequence[Ended], output: Sequence[OutputChunk]) -> None:
        """Note what happened; `deliver_within` sees to its being told."""
        self._started += started
        self._ended += ended
        self._output += output

    def add_end(self, end: Ended) -> None:
        """Note one end, and tell it in this turn of the loop."""
        self._ended.append(end)
        self.deliver_within(0.0)

    def has_end_of(self, key: AttemptKey) -> bool:
        """Whether an end is about to be told."""
        return any((end.task, end.attempt) == key for end in self._ended)

    def deliver_within(self, wait_s: float) -> None:
        """Tell all that is noted, at the end of this turn of the loop or within ``wait_s`` seconds."""
        loop = asyncio.get_running_loop()
        due_at = loop.time() + wait_s if wait_s else 0.0
        if self._delivery is not None:
            if self._due_at <= due_at:
                return
            self._delivery.cancel()
        self._due_at = due_at
        self._delivery = loop.call_later(wait_s, self.deliver) if wait_s else loop.call_soon(self.deliver)

    def deliver(self) -> None:
        """Tell it now."""
        self._delivery = None
        if self._started or self._ended or self._output:
            started, ended, output = self._started, self._ended, self._output
            self._started, self._ended, self._output = [], [], []
            self._events.on_events(started, ended, output)
