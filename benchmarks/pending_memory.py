"""Many tasks pending: what each costs in memory, and how soon a restart serves them again."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Result, cluster, median_of, rss_bytes
from benchmarks.submits import submit_arrays

__all__ = ["run"]

BATCH = 1_000


def run(*, quick: bool) -> list[Result]:
    """Submit, weigh, kill -9, start again."""
    results = []
    for count in (20_000,) if quick else (100_000, 1_000_000):
        directory = Path(tempfile.mkdtemp(prefix="rota-bench-"))
        arguments = ["--max-pending=2000000"]
        try:
            with cluster(workers=0, state_dir=directory, arguments=arguments) as running:
                submit_arrays(running, 10_000, batch=BATCH)  # so that buffers have their size
                before = rss_bytes(running.coordinator_pid)
                submit_arrays(running, count, batch=BATCH)
                each = (rss_bytes(running.coordinator_pid) - before) / count
            results.append(
                Result(name=f"memory of a pending task at {count:,}", value=each, unit="bytes", goal="< 600")
            )
            restarts = []
            for _ in range(3):
                began = time.perf_counter()
                with cluster(workers=0, state_dir=directory, arguments=arguments):
                    restarts.append(time.perf_counter() - began)
            goal = "< 2" if count == 100_000 else ""
            results.append(median_of(f"  start until it serves, {count:,} pending", restarts, "s", goal=goal))
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    return results
