"""How long the next attempt of an exclusive task waits for what may still run of the last.

A worker that is lost may only be out of reach. It stops an exclusive attempt by itself when nobody has answered it
for the lease (`rota.core.lease`), so no other begins before ``wait_s``, which is longer, after the last sign of life
that was received from it. What a coordinator before this one knew of signs of life is not on the record: there
``wait_s`` counts from our own start. An attempt whose worker said that it has ended is waited for by nobody.
"""

from __future__ import annotations

import math
from collections import deque

from rota.core.model import TaskSeq

__all__ = ["ExclusiveWaits"]


class ExclusiveWaits:
    """Until when tasks may still run on a worker that was lost. Times are steady."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._until: dict[TaskSeq, float] = {}
        self._order: deque[TaskSeq] = deque()
        self._from_start_until = -math.inf

    def begin(self, now: float) -> None:
        """Note when this reign began."""
        self._from_start_until = now + self._wait_s

    def lost(self, seq: TaskSeq, *, last_seen: float, now: float) -> None:
        """Note that the worker of an attempt is lost, or was replaced, and when it was heard last."""
        self._note(seq, last_seen + self._wait_s)
        while self._order and self._until.get(self._order[0], now) <= now:
            self._until.pop(self._order.popleft(), None)

    def known_before(self, seq: TaskSeq) -> None:
        """Note a task whose last attempt may have been lost in another reign."""
        self._note(seq, self._from_start_until)

    def may_run_until(self, seq: TaskSeq) -> float:
        """The time before which no other attempt may begin; long ago if there is none."""
        return self._until.get(seq, -math.inf)

    def _note(self, seq: TaskSeq, until: float) -> None:
        self._until[seq] = max(until, self.may_run_until(seq))
        self._order.append(seq)
