"""What a call leaves in its process and the next one must not find: set back as far as nobody can want it kept.

That is after each call that failed or was not quite short, and before the process goes over to another function. Set
back are alarms, which would end another call; the directory; the umask; and the handler by which a stop is told. What
is imported, cached or configured stays, variables and the state of random numbers included: to have it is why the
process is kept, and much of it is put there by modules that are loaded only once.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from typing import Final

from rota.worker.slots.linux import SIGTERM, handler_of

__all__ = ["Leftovers"]

WORN_SHARE: Final = 0.75
"""Of the descriptors that a process may have: one that has lost so many to calls before leaves in time."""


class Leftovers:
    """Made once a runner, before its first call.

    Args:
        on_stop: The handler of SIGTERM.
    """

    def __init__(self, on_stop: Callable[..., None]) -> None:
        self._on_stop = on_stop
        self._home_fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._umask = os.umask(0)
        os.umask(self._umask)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._fds_max = limit * WORN_SHARE

    def clear(self) -> None:
        """Set all back: 0.8 µs."""
        if handler_of(SIGTERM) != self._on_stop:
            signal.signal(signal.SIGTERM, self._on_stop)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        os.fchdir(self._home_fd)
        os.umask(self._umask)

    def is_worn(self) -> bool:
        """Whether so many descriptors are open that calls may fail soon for want of one."""
        try:
            fd = os.dup(self._home_fd)  # it gets the lowest number that is free
        except OSError:
            return True
        os.close(fd)
        return fd > self._fds_max
