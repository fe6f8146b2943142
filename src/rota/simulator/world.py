"""A world with its own clock and its own chance: events in order of time, and a trace of what happened.

Everything that happens is an event in one queue, and everything that is drawn by lot comes from one
generator, so a seed gives the same run, to the last character of the trace.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final

from rota.simulator.pace import CHAOTIC, Pace, Range

__all__ = ["WALL_AT_START", "Planned", "World"]

WALL_AT_START: Final = 1_800_000_000.0
"""What true clocks of the world show when it begins, seconds since 1970."""

LAST_LINES: Final = 60
"""Lines of the trace that are kept for whoever reads of a failure."""


class Planned:
    """Something that will happen, unless it is cancelled before. ``is_over`` once it can't happen any more."""

    __slots__ = ("action", "is_over")

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.is_over = False

    def cancel(self) -> None:
        """Let it not happen."""
        self.is_over = True


class World:
    """Clock, chance, queue of events, trace. ``now`` is in seconds and starts at 0.

    Args:
        seed: Of everything that is drawn.
        pace: How long things take.
        on_line: Is handed each line of the trace, if given.
    """

    def __init__(self, seed: int, *, pace: Pace = CHAOTIC, on_line: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.pace = pace
        self.now = 0.0
        self.rng = random.Random(f"rota/{seed}")
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._on_line = on_line
        self._queue: list[tuple[float, int, Planned]] = []
        self._planned = 0
        self._digest = blake2b(digest_size=16)

    # Time

    @property
    def wall(self) -> float:
        """What a clock shows that is right."""
        return WALL_AT_START + self.now

    def after(self, delay_s: float, action: Callable[[], None]) -> Planned:
        """Plan something. Equal times happen in the order in which they were planned."""
        assert delay_s >= 0.0
        return self.at(self.now + delay_s, action)

    def at(self, at: float, action: Callable[[], None]) -> Planned:
        """Plan something for a moment: what must not change places is planned so, since sums are rounded."""
        assert at >= self.now
        self._planned += 1
        event = Planned(action)
        heappush(self._queue, (at, self._planned, event))
        return event

    def run(self, *, until: float, is_over: Callable[[], bool] | None = None) -> bool:
        """Let things happen until a time, or until something holds: whether it did."""
        while self._queue and self._queue[0][0] <= until:
            at, _, event = heappop(self._queue)
            if event.is_over:
                continue
            self.now = at
            event.is_over = True
            event.action()
            if is_over is not None and is_over():
                return True
        self.now = until
        return False

    # Chance

    def chance(self, probability: float) -> bool:
        """Draw yes or no."""
        return self.rng.random() < probability

    def draw(self, span: Range) -> float:
        """Draw a number from a range."""
        low, high = span
        return low if low == high else self.between(low, high)

    def between(self, low: float, high: float) -> float:
        """Draw a number; small ones are likelier where the range spans orders of magnitude."""
        if low > 0.0 and high / low >= 10.0:
            return float(low * (high / low) ** self.rng.random())
        return self.rng.uniform(low, high)

    # Trace

    def note(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        line = f"{self.now:10.4f}  {who:<12} {what}"
        self._digest.update(line.encode())
        self.last_lines.append(line)
        if self._on_line is not None:
            self._on_line(line)

    def trace_hash(self) -> str:
        """What two equal runs have in common."""
        return self._digest.hexdigest()
