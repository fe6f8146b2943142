"""How long a worker may go on with exclusive attempts when nobody answers it.

The lease counts from when the worker *sent* the last heartbeat (or hello) that was answered: a slow answer shortens
it, never lengthens it. The coordinator waits for longer, counted from when it *received* the last one, which was
later; so when it starts the next attempt nothing of the last is left, as long as both clocks run at a sane rate
and neither the worker's process nor the whole machine stands still meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from rota.core.model import AttemptKey

__all__ = ["Lease"]

ASKED_MAX: Final = 64
"""Heartbeats without an answer that are remembered: far more than a channel stays open for."""


class Lease:
    """What is leased, and until when. Times named ``now`` are steady; ``wall`` is only what an answer repeats."""

    __slots__ = ("_asked", "_ends_at", "_leased", "_length_s", "grace_s")

    def __init__(self) -> None:
        self.grace_s = 0.0
        self._length_s = 0.0
        self._ends_at = -math.inf
        self._asked: list[tuple[float, float]] = []
        self._leased: dict[AttemptKey, None] = {}

    @property
    def ends_at(self) -> float | None:
        """When what is leased must end; ``None`` while nothing is."""
        return self._ends_at if self._leased else None

    def holds(self, now: float) -> bool:
        """Say whether something may be leased now."""
        return now < self._ends_at

    # What is said and answered

    def begin_anew(self, wall: float, *, now: float) -> None:
        """Note that a hello is sent on a new channel. What was asked on the last one is not answered any more."""
        self._asked = [(wall, now)]

    def asked(self, wall: float, *, now: float) -> None:
        """Note that a heartbeat is sent."""
        self._asked.append((wall, now))
        del self._asked[:-ASKED_MAX]

    def welcomed(self, *, lease_s: float, grace_s: float) -> None:
        """Note the answer to the hello. From now on the lease is as long as this coordinator says."""
        self._length_s, self.grace_s = lease_s, grace_s
        if self._asked:
            self._ends_at = self._asked.pop(0)[1] + lease_s

    def answered(self, wall: float) -> None:
        """Note the answer to the heartbeat that was sent when the wall clock showed this; those before it are over."""
        for index, (sent, now) in enumerate(self._asked):
            if sent == wall:
                self._ends_at = max(self._ends_at, now + self._length_s)
                del self._asked[: index + 1]
                return

    # What is leased

    def take(self, keys: Iterable[AttemptKey]) -> None:
        """Let attempts end with the lease."""
        self._leased.update(dict.fromkeys(keys))

    def forget(self, key: AttemptKey) -> None:
        """Note that an attempt has ended, if it was leased."""
        if self._leased:
            self._leased.pop(key, None)

    def take_overdue(self, now: float) -> list[AttemptKey]:
        """Remove and return what must end because the lease is over."""
        if now < self._ends_at:
            return []
        overdue = list(self._leased)
        self._leased.clear()
        return overdue
