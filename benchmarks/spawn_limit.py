"""The yardstick of process tasks: bare posix_spawn of ``/bin/true``, with as many in flight as there are lanes.

One spawner a core, one child in flight each, nothing captured, nothing recorded.
"""

from __future__ import annotations

import os
import time

__all__ = ["spawns_per_second"]


def spawns_per_second(count: int) -> float:
    """Return how many ``/bin/true`` a second this machine can start and reap, one in flight a core."""
    cores = sorted(os.sched_getaffinity(0))
    share = count // len(cores)
    began = time.perf_counter()
    spawners = [_fork_spawner(core, share) for core in cores]
    for pid in spawners:
        _, status = os.waitpid(pid, 0)
        if status != 0:
            raise SystemExit("a spawner failed")
    return share * len(cores) / (time.perf_counter() - began)


def _fork_spawner(core: int, count: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.sched_setaffinity(0, {core})
    for _ in range(count):
        os.posix_spawn("/bin/true", ["true"], {})
        os.wait()
    os._exit(0)
