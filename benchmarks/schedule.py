"""Placement alone: `POST /schedule` under load, beside a bare ASGI application under the same server.

500 and 5,000 workers send heartbeats every 3 s meanwhile. The ratios are of neighbours in one round.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks.harness import ROOT, Result, cluster, median_of, rss_bytes
from benchmarks.http_load import CONNECTIONS, Load, post_load
from benchmarks.own_workers import EVERY_S, heartbeat_of

__all__ = ["run"]

FEW: Final = 500
MANY: Final = 5_000
TASK: Final = b'{"task_id":"task-000001","required_tags":["gpu"]}'
WARM_S: Final = 1.0


def run(*, quick: bool) -> list[Result]:
    """Rounds of: bare, 500 workers, 5,000 workers."""
    rounds, seconds = (3, 2.0) if quick else (5, 3.0)
    bare: list[Load] = []
    few: list[Load] = []
    many: list[Load] = []
    for _ in range(rounds):
        with program("benchmarks.bare_asgi") as (process, said):
            bare.append(loaded(address_in(said), seconds, pid=process.pid))
        for count, loads in ((FEW, few), (MANY, many)):
            with cluster(workers=0) as running, program("benchmarks.own_workers", running.url, count):
                loads.append(loaded(f"{running.url}/api/v1/schedule", seconds, pid=running.coordinator_pid))
    rates = [[load.per_second for load in loads] for loads in (bare, few, many)]
    return [
        median_of(f"bare ASGI application, {CONNECTIONS} connections", rates[0], "requests/s"),
        median_of("  99th percentile", [load.p99_ms for load in bare], "ms"),
        median_of(f"POST /schedule, {FEW} workers", rates[1], "requests/s", goal="20,000"),
        median_of("  of bare", ratios(rates[1], rates[0]), "", goal="0.45"),
        median_of("  99th percentile", [load.p99_ms for load in few], "ms", goal="< 2"),
        median_of(f"POST /schedule, {MANY:,} workers", rates[2], "requests/s"),
        median_of(f"  of {FEW} workers", ratios(rates[2], rates[1]), "", goal="> 0.8"),
        median_of("    heartbeats counted as requests", ratios(all_requests(many, MANY), all_requests(few, FEW)), ""),
        median_of("  99th percentile", [load.p99_ms for load in many], "ms"),
        *(
            median_of(f"  processor time of the server a request, {name}", [load.cpu_us for load in loads], "µs")
            for name, loads in (("bare", bare), (f"{FEW} workers", few), (f"{MANY:,} workers", many))
        ),
        memory_of_state(),
        heartbeat_bytes(),
    ]


def ratios(values: list[float], of: list[float]) -> list[float]:
    """Each of its neighbour of the same round."""
    return [value / base for value, base in zip(values, of, strict=True)]


def all_requests(loads: list[Load], workers: int) -> list[float]:
    """What the server answered a second, the heartbeats of the workers included."""
    return [load.per_second + workers / EVERY_S for load in loads]


def loaded(url: str, seconds: float, *, pid: int) -> Load:
    """Measure, after a moment to warm up."""
    post_load(url, TASK, seconds=WARM_S, pid=pid)
    return post_load(url, TASK, seconds=seconds, pid=pid)


def memory_of_state() -> Result:
    """Weigh 500 workers: the growth of the process, after its code has run once for a few."""
    with cluster(workers=0) as running:
        with program("benchmarks.own_workers", running.url, 8):
            post_load(f"{running.url}/api/v1/schedule", TASK, seconds=WARM_S, pid=running.coordinator_pid)
        before = rss_bytes(running.coordinator_pid)
        with program("benchmarks.own_workers", running.url, FEW):
            post_load(f"{running.url}/api/v1/schedule", TASK, seconds=WARM_S, pid=running.coordinator_pid)
            grown = rss_bytes(running.coordinator_pid) - before
    return Result(name=f"memory of {FEW} workers", value=grown / 1e6, unit="MB", goal="< 3")


def heartbeat_bytes() -> Result:
    """Add up the bodies that 500 workers send in a second."""
    sent = sum(len(heartbeat_of(number)) for number in range(FEW)) / EVERY_S
    return Result(name=f"heartbeat bodies of {FEW} workers", value=sent / 1000, unit="KB/s", goal="< 33")


@contextmanager
def program(module: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a module beside us, from its first line of output until the block ends."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said:
                raise SystemExit(f"{module} has ended before it was ready")
            yield process, said
        finally:
            process.terminate()
            process.wait(timeout=30)


def address_in(said: str) -> str:
    """The address that a server says it listens on."""
    found = re.search(r"http://\S+", said)
    assert found is not None
    return found[0]
