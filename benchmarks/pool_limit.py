"""The yardstick of functions: ``multiprocessing.Pool(2)``, one pickled message a task, nothing stored.

As ``limit_pool.py`` of the peers' scripts does it. In a process of its own, because a pool forks the one it is in.

Run: python -m benchmarks.pool_limit COUNT
"""

from __future__ import annotations

import multiprocessing
import sys
import time

from benchmarks.harness import ask_module
from benchmarks.work import nap_pid, noop

__all__ = ["pool_per_second"]

PROCESSES = 2


def pool_per_second(count: int) -> float:
    """Return how many no-op functions a second a pool runs, one by one, in a fresh process."""
    return ask_module("benchmarks.pool_limit", count)["tasks_per_s"]


def measure(count: int) -> float:
    with multiprocessing.Pool(PROCESSES) as pool:
        while len(set(pool.map(nap_pid, range(8), chunksize=1))) < PROCESSES:
            pass
        began = time.perf_counter()
        got = sorted(pool.imap_unordered(noop, range(count), chunksize=1))
        seconds = time.perf_counter() - began
    if got != list(range(count)):
        raise SystemExit("the pool lost results")
    return count / seconds


if __name__ == "__main__":
    print(f'{{"tasks_per_s": {measure(int(sys.argv[1]))}}}')
