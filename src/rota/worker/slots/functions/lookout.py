"""When a slot looks at its runner's results: when it is rung for, or by itself while they come in quick succession.

Waking slot, agent and coordinator for each result would cost more than most calls. So while more calls are fed, results
wait for a quarter of what is fed to be done, as the rate so far has it, and at most for the next tick of a
clock that is the same in all slots of a machine, so that theirs meet in one report of the agent's.
"""

from __future__ import annotations

from typing import Final

__all__ = ["TICK_S", "Lookout"]

TICK_S: Final = 0.025
"""A quarter of the work that a line holds; see `rota.worker.slots.slot`."""

HOLD_S_MIN: Final = 0.002

FED_PART: Final = 0.25
"""Of what is fed, done between two looks: the rest lasts until more comes."""

SETTLE_S: Final = 0.001
"""From saying that nobody looks any more to the last look: the runner may just have read that somebody does."""


class Lookout:
    """``is_on`` while the slot looks by itself; ``look_at`` is when, on the steady clock."""

    __slots__ = ("_took_at", "is_on", "look_at")

    def __init__(self) -> None:
        self.is_on = False
        self.look_at: float | None = None
        self._took_at = 0.0

    def looked(self, now: float, *, found: int, fed: int) -> None:
        """Decide what follows from a look.

        Args:
            now: On the steady clock.
            found: How many results there were.
            fed: How many calls the runner has that have not ended.
        """
        if found:
            since_s = now - self._took_at
            self.is_on = fed > 0 and (self.is_on or since_s < TICK_S)
            self.look_at = now + _hold_s(now, since_s / found, fed) if self.is_on else None
            self._took_at = now
        elif self.look_at is not None and now >= self.look_at:
            self.look_at = now + SETTLE_S if self.is_on else None
            self.is_on = False


def _hold_s(now: float, each_s: float, fed: int) -> float:
    """How long to wait for more results, which come one every ``each_s``.

    >>> [round(_hold_s(1.005, each_s, fed), 4) for each_s, fed in ((0.00003, 400), (0.01, 10), (0.000001, 4))]
    [0.003, 0.02, 0.002]
    """
    hold_s = each_s * fed * FED_PART
    to_next_tick_s = TICK_S - now % TICK_S
    return max(min(hold_s, to_next_tick_s), HOLD_S_MIN)
