"""No-op functions from end to end, durable, every result checked; and where each microsecond goes.

One worker with two lanes, as the peers have two worker processes; client, coordinator and worker share the
machine. Rounds alternate with ``multiprocessing.Pool(2)``, which stores nothing. What a part of the cluster costs
is its processor time in our rounds, divided by their tasks; two cores offer 2,000,000 µs a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Final

from benchmarks.harness import Result, cluster, median_of
from benchmarks.pool_limit import pool_per_second
from benchmarks.processes import PARTS, cpu_by_part, each_task, machine_busy_s, spent
from benchmarks.work import connect, noop, wait_for_lanes

__all__ = ["functions_per_second", "run"]

LANES: Final = 2
WARM_UP: Final = 5_000
OFFER: Final = ("--resources=cpu=2000,memory=4096",)
"""Two lanes, whatever the machine has."""


def run(*, quick: bool) -> list[Result]:
    """Alternate rounds of ours and of the pool, so that both meet the same machine."""
    count, rounds = (20_000, 3) if quick else (100_000, 5)
    spans: list[dict[str, float]] = []
    busy_s, seconds = 0.0, 0.0
    ours, pools = [], []
    with cluster(workers=1, arguments=OFFER) as running, connect(running.url) as client:
        wait_for_lanes(client, LANES)
        functions_per_second(client, WARM_UP)
        for _ in range(rounds):
            pools.append(pool_per_second(count))
            before, busy_before = cpu_by_part(running.pid, os.getpid()), machine_busy_s()
            ours.append(functions_per_second(client, count))
            spans.append(spent(before, cpu_by_part(running.pid, os.getpid())))
            busy_s += machine_busy_s() - busy_before
            seconds += count / ours[-1]
    ratios = [one / other for one, other in zip(ours, pools, strict=True)]
    return [
        median_of("multiprocessing.Pool(2), one by one, nothing stored", pools, "tasks/s"),
        median_of("no-op functions, durable, results returned", ours, "tasks/s", goal="60,000"),
        median_of("  of multiprocessing.Pool(2)", ratios, "ratio", goal="0.75"),
        *ledger(spans, tasks=count * rounds, busy_s=busy_s, seconds=seconds),
    ]


def functions_per_second(client: Executor, count: int) -> float:
    """Run so many no-op functions and check their results; return how many a second."""
    began = time.perf_counter()
    got = list(client.map(noop, range(count)))
    seconds = time.perf_counter() - began
    if got != list(range(count)):
        raise SystemExit(f"{count} functions gave other results, or in another order")
    return count / seconds


def ledger(spans: Sequence[Mapping[str, float]], *, tasks: int, busy_s: float, seconds: float) -> list[Result]:
    """List the processor time of each part over all rounds, and what the machine did besides."""
    used = {part: sum(span.get(part, 0.0) for span in spans) for part in PARTS}
    lines = each_task(used, tasks)
    ours = sum(lines.values())
    lines |= {
        "all of these": ours,
        "kernel threads and other programs": max(0.0, 1e6 * busy_s / tasks - ours),
        "two cores offered": 2e6 * seconds / tasks,
    }
    return [Result(name=f"  processor: {part}", value=value, unit="µs/task") for part, value in lines.items()]
