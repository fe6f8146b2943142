"""How much may wait: the one limit that REST answers with 429 and channels with patience."""

from __future__ import annotations

from typing import Final

from rota.coordinator.loop import Loop
from rota.core.errors import Overloaded

__all__ = ["WaitingRoom"]

OPEN_AGAIN_SHARE: Final = 0.9
"""Of the limit: so that a channel that was held up goes on for a while before it is held up again."""


class WaitingRoom:
    """Compares what waits (in queues, for a time, and in the inbox) with ``--max-pending``."""

    def __init__(self, loop: Loop, *, tasks_max: int) -> None:
        self._loop = loop
        self._tasks_max = tasks_max

    @property
    def tasks(self) -> int:
        """How many tasks wait; 0 while there is no scheduler."""
        turn = self._loop.turn
        if turn is None:
            return 0
        state = turn.scheduler.state
        return state.pending.size + sum(state.held.values()) + self._loop.inbox.tasks

    @property
    def is_full(self) -> bool:
        """Whether more wait than may."""
        return self.tasks > self._tasks_max

    @property
    def has_space(self) -> bool:
        """Whether there is space for those who were held up."""
        return self.tasks <= self._tasks_max * OPEN_AGAIN_SHARE

    def check(self, more: int) -> None:
        """See that so many more may wait.

        Raises:
            Overloaded: They may not.
        """
        waiting = self.tasks
        if waiting + more > self._tasks_max:
            raise Overloaded(
                f"{waiting:,} tasks wait and {more:,} more would be over the limit of {self._tasks_max:,} "
                "(--max-pending): come again when some have run"
            )
