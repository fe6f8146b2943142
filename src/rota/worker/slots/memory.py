"""What the tree of an attempt has in memory: looked at from time to time, and held under a limit.

The kernel's own figure (``ru_maxrss``) is the peak of single processes only, and starts at the slot's own
size, because exec carries the peak of the parent over. So the tree is sampled. A sum of resident
sizes counts shared pages once for each process; it is a cheap first look, and only when it is over
the limit the proportional sizes decide. Short peaks between two looks are not seen.
"""

import os
import time

from rota.worker.slots.tree import descendants, proportional_kib, resident_kib

__all__ = ["MemoryWatch", "kernel_killed_for_memory", "watch_kernel"]

FIRST_LOOK_S = 0.1
"""After the start: what ends before has no sampled peak."""

LIMITED_PERIOD_S = 0.1
"""Between looks at a tree with a limit: a program fills about 300 MiB in that time at worst."""

PERIOD_S_MAX = 2.0
"""Between looks at a tree without a limit, reached by doubling: it is for the record only."""

KERNEL_PERIOD_S = 1.0
"""How old the count of the kernel's kills may be at the start of an attempt; reading it costs 30 µs."""


class MemoryWatch:
    """The memory of the tree below this process. ``next_look`` is on the steady clock."""

    __slots__ = ("_limit_kib", "_period_s", "next_look", "peak_kib")

    def __init__(self, limit_mib: int | None, *, started: float) -> None:
        self._limit_kib = None if limit_mib is None else limit_mib * 1024
        self._period_s = LIMITED_PERIOD_S
        self.next_look = started + FIRST_LOOK_S
        self.peak_kib = 0

    def look(self, now: float) -> str | None:
        """Take a sample if one is due; return a sentence if the tree is over its limit."""
        if now < self.next_look:
            return None
        if self._limit_kib is None:
            self._period_s = min(2 * self._period_s, PERIOD_S_MAX)
        pids = descendants(os.getpid())
        used_kib = sum(map(resident_kib, pids))
        if self._limit_kib is not None and used_kib > self._limit_kib:
            used_kib = sum(map(proportional_kib, pids)) or used_kib
        self.peak_kib = max(self.peak_kib, used_kib)
        # From the end of the look: on a tree of thousands it must not become all that the slot does.
        self.next_look = time.monotonic() + self._period_s
        if self._limit_kib is None or used_kib <= self._limit_kib:
            return None
        return (
            f"its processes had {-(-used_kib // 1024)} MiB in memory, and its limit is {self._limit_kib // 1024} MiB: "
            "ask for more in resources.memory"
        )


class _KernelKills:
    """How many processes the kernel has killed for want of memory, as of the last reading."""

    count = 0
    read_at = float("-inf")


def watch_kernel(now: float) -> None:
    """Note the count before an attempt starts, unless that was done a moment ago."""
    if now - _KernelKills.read_at >= KERNEL_PERIOD_S:
        _KernelKills.count = _read_kernel_kills()
        _KernelKills.read_at = now


def kernel_killed_for_memory() -> bool:
    """Whether the count has risen since `watch_kernel` last read it."""
    before, _KernelKills.count = _KernelKills.count, _read_kernel_kills()
    return _KernelKills.count > before


def _read_kernel_kills() -> int:
    try:
        fd = os.open("/proc/vmstat", os.O_RDONLY)
    except OSError:
        return 0
    try:
        text = os.read(fd, 65536)
    finally:
        os.close(fd)
    _, found, rest = text.partition(b"\noom_kill ")
    return int(rest.split(b"\n", 1)[0]) if found else 0
