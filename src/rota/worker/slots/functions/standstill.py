"""Notices a runner that starts nothing although it has something to start.

Between two calls no time-out runs. What hangs there was left by an earlier call: a finalizer that waits for ever, or a
thread that has stopped the process. Nothing has started that could be lost, so the runner is replaced.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Standstill"]

PATIENCE_S: Final = 30.0
"""Much more than a busy machine, or killing what a call has left, makes a call wait."""

LOOK_S_MAX: Final = 0.1
"""What counts between two looks: while we were not looked at ourselves, the runner did not get on, either."""


class Standstill:
    """How long one runner has stood still."""

    __slots__ = ("_last", "_looked_at", "_stood_s")

    def __init__(self) -> None:
        self._last = -1
        self._looked_at = 0.0
        self._stood_s = 0.0

    def is_stuck(self, last: int, now: float) -> bool:
        """Look at a runner that has something to start, and runs nothing.

        Args:
            last: The ordinal of the last call that it started.
            now: On the steady clock.
        """
        if last != self._last:
            self._last, self._stood_s = last, 0.0
        else:
            self._stood_s += min(now - self._looked_at, LOOK_S_MAX)
        self._looked_at = now
        return self._stood_s >= PATIENCE_S
