"""The yardstick of lanes: bare processes that sleep the same naps, each its own share, with nothing around.

What they lack to a busy share of 1 is the kernel's: timers that end late, and cores that are taken.

Run: python -m benchmarks.sleepers LANES NAPS NAP_S
"""

from __future__ import annotations

import heapq
import os
import sys
import time
from collections.abc import Iterable

from benchmarks.harness import ask_module

__all__ = ["bare_busy_share", "greedy_s"]


def bare_busy_share(lanes: int, naps: int, nap_s: float) -> float:
    """Return which share of their time so many processes sleep, ``naps`` naps each."""
    return naps * nap_s / ask_module("benchmarks.sleepers", lanes, naps, nap_s)["seconds"]


def greedy_s(naps: Iterable[float], lanes: int) -> float:
    """Return when the last nap ends if each begins, in its turn, on the first free lane, and nothing costs time.

    >>> greedy_s([3.0, 1.0, 1.0, 2.0], lanes=2)
    4.0
    """
    free_at = [0.0] * lanes
    for nap in naps:
        heapq.heapreplace(free_at, free_at[0] + nap)
    return max(free_at)


def measure(lanes: int, naps: int, nap_s: float) -> float:
    reader, writer = os.pipe()
    for _ in range(lanes):
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)  # ends for all at once, when the parent closes its end
            for _ in range(naps):
                time.sleep(nap_s)
            os._exit(0)
    began = time.perf_counter()
    os.close(writer)
    for _ in range(lanes):
        os.wait()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(f'{{"seconds": {measure(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))}}}')
