"""One function at a time, there and back, durable; next to what no implementation can be quicker than."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import Executor
from typing import Final

from benchmarks.functions import LANES, OFFER
from benchmarks.harness import Result, cluster, median_of, percentile
from benchmarks.relay import COMMITS, bare_commit_ms, bare_relay_ms
from benchmarks.work import connect, noop, wait_for_lanes

__all__ = ["round_trips_ms", "run"]

WARM_UP: Final = 100


def run(*, quick: bool) -> list[Result]:
    """Alternate rounds of ours and of the bare parts."""
    count, rounds = (200, 3) if quick else (500, 5)
    medians, tails, relays, commits = [], [], [], []
    with cluster(workers=1, arguments=OFFER) as running, connect(running.url) as client:
        wait_for_lanes(client, LANES)
        round_trips_ms(client, WARM_UP)
        for _ in range(rounds):
            relays.append(bare_relay_ms(count)[0])
            commits.append(bare_commit_ms(count)[0])
            taken_ms = round_trips_ms(client, count)
            medians.append(statistics.median(taken_ms))
            tails.append(percentile(taken_ms, 0.99))
    floors = [relay + COMMITS * commit for relay, commit in zip(relays, commits, strict=True)]
    ratios = [one / floor for one, floor in zip(medians, floors, strict=True)]
    return [
        median_of("a message through five bare processes and back, median", relays, "ms"),
        median_of("a bare SQLite commit of one row, WAL, FULL, median", commits, "ms"),
        median_of(f"  both as a task needs them: the way and {COMMITS} commits", floors, "ms"),
        median_of("round trip of one function, durable, median", medians, "ms", goal="< 0.7"),
        median_of("  99th percentile", tails, "ms", goal="< 3"),
        median_of("  median, of the bare parts", ratios, "ratio"),
    ]


def round_trips_ms(client: Executor, count: int) -> list[float]:
    """Submit and await one function after another; return the milliseconds of each."""
    taken_ms = []
    for number in range(count):
        began = time.perf_counter()
        got = client.submit(noop, number).result()
        taken_ms.append(1e3 * (time.perf_counter() - began))
        if got != number:
            raise SystemExit(f"a function returned {got} instead of {number}")
    return taken_ms
