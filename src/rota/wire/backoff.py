"""How long to wait before connecting again: a pure function of the attempt and of chance.

The cap keeps the promise that workers are back within 5 s of a coordinator's return; the jitter keeps
a thousand of them from coming back in the same moment.
"""

from __future__ import annotations

import random
from typing import Final

__all__ = ["RECONNECT_CAP_S", "RECONNECT_FLOOR_S", "reconnect_delay_s"]

RECONNECT_FLOOR_S: Final = 0.2
"""A restarted coordinator is back about that fast, and a dead one is not hammered."""

RECONNECT_CAP_S: Final = 5.0
"""Far below the grace in which a coordinator that has just started declares nobody lost."""

_DOUBLINGS_MAX: Final = 16
"""More change nothing under the cap, and a power of a huge attempt number would overflow."""


def reconnect_delay_s(attempt: int, rng: random.Random) -> float:
    """Return the seconds to wait before the next try, after ``attempt`` (1 or more) that failed.

    Drawn evenly between the floor and a ceiling that doubles with each attempt up to the cap.

    >>> rng = random.Random(7)
    >>> [round(reconnect_delay_s(attempt, rng), 2) for attempt in (1, 2, 3, 4, 5, 100)]
    [0.26, 0.29, 1.11, 0.42, 2.77, 1.96]
    """
    assert attempt >= 1, attempt
    ceiling_s = min(RECONNECT_CAP_S, RECONNECT_FLOOR_S * 2.0 ** min(attempt, _DOUBLINGS_MAX))
    return rng.uniform(RECONNECT_FLOOR_S, ceiling_s)
