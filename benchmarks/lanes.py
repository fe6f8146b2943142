"""Lanes kept busy: tasks that only sleep, on 1 to 256 lanes, and a long mix of short and shorter ones.

Sleeping costs no processor, so a worker may offer more cores than there are: a lane each. The busy share is
``tasks × nap / (lanes × wall)``.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import Executor
from typing import Final

from benchmarks.harness import Result, cluster, median_of
from benchmarks.sleepers import bare_busy_share, greedy_s
from benchmarks.work import connect, nap, wait_for_lanes

__all__ = ["run", "run_mixed"]

NAP_S: Final = 0.01
LANES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

MIXED_LANES: Final = 64
MIXED_NAP_S_MAX: Final = 0.05
SEED: Final = 3

MILLICORES: Final = 1_000
MEMORY_MIB: Final = 1 << 20


def run(*, quick: bool) -> list[Result]:
    """For each number of lanes a cluster of its own: rounds of naps, next to bare processes."""
    naps, rounds = (50, 3) if quick else (200, 5)
    results = []
    for lanes in LANES:
        shares, bare = [], []
        with cluster(workers=1, arguments=_offer(lanes)) as running, connect(running.url) as client:
            wait_for_lanes(client, lanes)
            for one_round in range(rounds + 1):  # the first teaches how long a nap takes
                share = naps * NAP_S / nap_seconds(client, [NAP_S] * (lanes * naps))
                if one_round > 0:
                    shares.append(share)
                    bare.append(bare_busy_share(lanes, naps, NAP_S))
        results.append(median_of(f"{lanes} lanes, naps of 10 ms: busy", shares, "share", goal="0.95"))
        results.append(median_of("  bare processes", bare, "share"))
    return results


def run_mixed(*, quick: bool) -> list[Result]:
    """Naps of 0 to 50 ms, against their sum divided by the lanes."""
    count, rounds = (10_000, 3) if quick else (100_000, 3)
    naps = mixed_naps(count)
    ideal_s = sum(naps) / MIXED_LANES
    with cluster(workers=1, arguments=_offer(MIXED_LANES)) as running, connect(running.url) as client:
        wait_for_lanes(client, MIXED_LANES)
        nap_seconds(client, naps[: count // 20])
        ratios = [nap_seconds(client, naps) / ideal_s for _ in range(rounds)]
    return [
        Result(name=f"{count:,} naps of 0 to 50 ms on {MIXED_LANES} lanes: ideal", value=ideal_s, unit="s"),
        Result(name="  greedy, if nothing cost time, of ideal", value=greedy_s(naps, MIXED_LANES) / ideal_s, unit=""),
        median_of("  measured, of ideal", ratios, "ratio", goal="< 1.05"),
    ]


def mixed_naps(count: int) -> list[float]:
    """Return the same naps each time: uniform, in whole microseconds."""
    chance = random.Random(SEED)
    return [round(chance.uniform(0, MIXED_NAP_S_MAX), 6) for _ in range(count)]


def nap_seconds(client: Executor, naps: list[float]) -> float:
    """Nap them all; return how long it took."""
    began = time.perf_counter()
    got = list(client.map(nap, naps))
    seconds = time.perf_counter() - began
    if got != naps:
        raise SystemExit("naps gave other results, or in another order")
    return seconds


def _offer(lanes: int) -> tuple[str, ...]:
    return (f"--resources=cpu={lanes * MILLICORES},memory={MEMORY_MIB}",)
