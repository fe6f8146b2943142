"""How long things take in a simulated world that are neither the scheduler's nor the tasks' doing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["CHAOTIC", "COARSE", "SMOOTH", "Pace", "Range"]

Range = tuple[float, float]
"""From and to, in seconds. Drawn anew each time; the same number twice is that number."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Ranges in seconds, and parts of 1.

    Attributes:
        turn_s: From a command to the turn that takes it.
        ahead_part: Of the commands that come during a save: those that begin a turn ahead.
        commit_s: Of most commits.
        delay_s: Of most messages.
        late_s: Of a few: a full buffer, a lost packet.
        late_part: Which part these are.
        tell_s: From an end in a slot until it is told, with all that end meanwhile.
        dial_s: From the start of a worker until it dials.
        redial_s: Between tries to reach a coordinator.
        answer_s: From the answer to a client until that has it.
        answer_lost_part: Of the answers to clients: those that never arrive.
        restart_s: Until a killed coordinator is started again.
        skew_s: Of the clocks of workers.
    """

    turn_s: Range
    ahead_part: float
    commit_s: Range
    delay_s: Range
    late_s: Range
    late_part: float
    tell_s: Range
    dial_s: Range
    redial_s: Range
    answer_s: Range
    answer_lost_part: float
    restart_s: Range
    skew_s: Range


CHAOTIC: Final = Pace(
    turn_s=(0.00005, 0.001),
    ahead_part=0.5,
    commit_s=(0.0002, 0.003),
    delay_s=(0.0001, 0.002),
    late_s=(0.01, 2.0),
    late_part=0.01,
    tell_s=(0.0001, 0.005),
    dial_s=(0.001, 0.02),
    redial_s=(1.0, 5.0),
    answer_s=(0.0001, 0.01),
    answer_lost_part=0.02,
    restart_s=(0.05, 4.0),
    skew_s=(-3.0, 3.0),
)
"""For finding mistakes: nothing takes the same time twice, and answers get lost."""

SMOOTH: Final = Pace(
    turn_s=(0.001, 0.001),
    ahead_part=1.0,
    commit_s=(0.001, 0.001),
    delay_s=(0.0002, 0.0002),
    late_s=(0.0, 0.0),
    late_part=0.0,
    tell_s=(0.001, 0.001),
    dial_s=(0.001, 0.02),
    redial_s=(1.0, 5.0),
    answer_s=(0.0002, 0.0002),
    answer_lost_part=0.0,
    restart_s=(2.0, 2.0),
    skew_s=(0.0, 0.0),
)
"""For finding out how a cluster would do: what a local network and a good disk take."""

COARSE: Final = replace(SMOOTH, turn_s=(0.01, 0.01), tell_s=(0.005, 0.005))
"""Where so much happens that a turn has many commands anyhow: fewer turns, and 15 ms on top of each wait."""
