"""A wall clock that a test sets, for the coordinator's process alone: its steady clock and everybody else's go on.

The coordinator looks at it more often than usual, so that it sees soon what a test has set.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

__all__ = ["WallClock"]

_PRELUDE = """
import time
real_time = time.time
def set_time():
    with open({path!r}) as file:
        return real_time() + float(file.read())
time.time = set_time
from rota.core import timers
timers.CALENDAR_LOOK_S = 0.1
"""


class WallClock:
    """Shows the time that was set last, and goes on from there.

    ``prelude`` is Python that the process runs first: see `Cluster.launch_coordinator`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clock"
        self._path.write_text("0.0")
        self.prelude = _PRELUDE.format(path=str(self._path))

    def set(self, moment: str) -> None:
        """Set it, back or forward, to a moment in RFC 3339."""
        offset_s = datetime.fromisoformat(moment).timestamp() - time.time()
        # In one step: the other process must never read half of it.
        changed = self._path.with_suffix(".new")
        changed.write_text(repr(offset_s))
        changed.rename(self._path)
