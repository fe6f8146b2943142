"""The two clocks that the pure parts are handed."""

from __future__ import annotations

import time

__all__ = ["steady_s", "wall_s"]

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_s() -> float:
    """Seconds that never jump and, unlike those of `time.monotonic`, run on while the machine is suspended."""
    return time.clock_gettime(_STEADY)


def wall_s() -> float:
    """Seconds since 1970, as the calendar has it: for display and calendars only."""
    return time.time()
