"""How often a store that took no write is tried again: the longer that goes on, with or without breaks, the less.

A disk that is nearly full takes small writes and refuses large ones. Each refusal sends all workers and
clients away, so a client that tries its large one again and again must not do so to everybody each quarter of a second.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["SETTLED_S", "OutagePace"]

SETTLED_S: Final = 30.0
"""A store that has taken writes for so long is well again."""


class OutagePace:
    """The pauses of one coordinator.

    >>> pace = OutagePace()
    >>> [pace.next_pause_s(least_s=0.25, most_s=1.0) for _ in range(4)]
    [0.25, 0.5, 1.0, 1.0]
    >>> pace.recovered(now=100.0)
    >>> pace.saved(now=101.0)  # well for a second: what comes next is the same outage
    >>> pace.next_pause_s(least_s=0.25, most_s=1.0)
    1.0
    >>> pace.saved(now=100.0 + SETTLED_S)
    >>> pace.next_pause_s(least_s=0.25, most_s=1.0)
    0.25
    """

    __slots__ = ("_pause_s", "_recovered_at")

    def __init__(self) -> None:
        self._pause_s = 0.0
        self._recovered_at = -math.inf

    def next_pause_s(self, *, least_s: float, most_s: float) -> float:
        """Return how long to wait before the next try: twice as long as before it, within the bounds."""
        self._pause_s = min(most_s, max(least_s, 2 * self._pause_s))
        return self._pause_s

    def recovered(self, *, now: float) -> None:
        """Note that the store has taken a write after an outage."""
        self._recovered_at = now

    def saved(self, *, now: float) -> None:
        """Note that a turn was saved: begin anew if the last outage is long over."""
        if now - self._recovered_at >= SETTLED_S:
            self._pause_s = 0.0
