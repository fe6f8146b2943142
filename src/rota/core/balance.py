"""Taking work back from long lines for workers that have nothing to do.

Lines are made short by what their class took so far, so this matters at the end of a job, when a worker joins, and
where tasks of one class differ. Taking back is a question to the worker, as everywhere: what has started stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from rota.core.attempts import Attempts
from rota.core.state import State
from rota.core.workers import Lane, Worker

__all__ = ["TAKE_BACK_S", "Balance"]

TAKE_BACK_S: Final = 0.02
"""Estimated work behind the head of a line from which taking half of it back pays: it costs two commits, some 5 ms."""

IDLE_MAX: Final = 16
"""Idle workers served in one look; the others are idle the next time, too."""

LINES_MAX: Final = 32
"""Lines looked at for each of them, and the longest is chosen."""


class Balance:
    """Shares what stands in lines with those who are idle."""

    def __init__(self, state: State, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts

    def run(self, freed: Sequence[Worker]) -> None:
        """Ask half of a line back for each of some workers that gained room, if nothing else waits for it.

        Cost: O(1) where no line is long; else at most `IDLE_MAX` × `LINES_MAX` looks.
        """
        if not self._state.cluster.long_lines or self._state.holds:
            return
        for worker in freed[:IDLE_MAX]:
            lane = self._find_longest(worker)
            if lane is not None:
                lane.is_shared = True
                self._attempts.recall(lane, count=len(lane.line) // 2)

    def _find_longest(self, idle: Worker) -> Lane | None:
        """The line with the most work behind its head that an idle worker could take some of."""
        longest: Lane | None = None
        least_s = TAKE_BACK_S
        for lane in islice(self._state.cluster.long_lines, LINES_MAX):
            behind_s = _behind_head_s(lane)
            if behind_s >= least_s and self._can_share(lane) and lane.room.fits_now(idle):
                longest, least_s = lane, behind_s
        return longest

    def _can_share(self, lane: Lane) -> bool:
        """A line is asked once until its head has ended, and not at all while others of its shape wait."""
        return not lane.is_shared and not lane.recalled and lane.room not in self._state.pending.groups


def _behind_head_s(lane: Lane) -> float:
    head = lane.line[0]
    return lane.backlog_s - (head.run.estimate_s if head.run is not None else 0.0)
