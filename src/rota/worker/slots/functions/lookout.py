"""When a slot looks at its runner's results: when it is rung for, or by itself while they come in quick succession."""

from __future__ import annotations

from typing import Final

__all__ = ["Lookout"]

HOLD_S: Final = 0.005
"""Between looks while results come faster than that: waking slot and agent for each would cost more than the calls."""

SETTLE_S: Final = 0.001
"""From saying that nobody looks any more to the last look: the runner may just have read that somebody does."""


class Lookout:
    """``is_on`` while the slot looks by itself; ``look_at`` is when, on the steady clock."""

    __slots__ = ("_took_at", "is_on", "look_at")

    def __init__(self) -> None:
        self.is_on = False
        self.look_at: float | None = None
        self._took_at = 0.0

    def looked(self, now: float, *, has_found: bool, has_more: bool) -> None:
        """Decide what follows from a look.

        Args:
            now: On the steady clock.
            has_found: Whether there were results.
            has_more: Whether there will be more.
        """
        if has_found:
            self.is_on = has_more and (self.is_on or now - self._took_at < HOLD_S)
            self.look_at = now + HOLD_S if self.is_on else None
            self._took_at = now
        elif self.look_at is not None and now >= self.look_at:
            self.look_at = now + SETTLE_S if self.is_on else None
            self.is_on = False
