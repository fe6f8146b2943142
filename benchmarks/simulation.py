"""The simulator: how many tasks a second, with how many workers, and whether a live cluster agrees with it.

Speed is that of whole runs in a process of their own: arrivals made, placed, run, reported, ended, summed up.
To compare, a cluster runs sleeps that come at random, and its own record is replayed: the same tasks at the same times.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Result, ask_module, cluster, disk_directory, median_of
from rota.simulator.plan import LoadPlan, Plan, WorkerPlan
from rota.simulator.runs import arrivals_of, capacity_of, fitting_rate, run_plan

__all__ = ["run"]

FEW_WORKERS: Final = 1_000
MANY_WORKERS: Final = 10_000
SHAPES: Final = 100
BUSY_PART: Final = 0.9

LIVE_LANES: Final = 20
LIVE_TASKS: Final = 400
LIVE_MEAN_S: Final = 0.5
LIVE_BUSY_PART: Final = 0.85
SEED: Final = 5


def run(*, quick: bool) -> list[Result]:
    """Time runs, then compare with a live cluster."""
    tasks = 50_000 if quick else 1_000_000
    few = ask_module("benchmarks.simulation", FEW_WORKERS, tasks)
    many = ask_module("benchmarks.simulation", MANY_WORKERS, max(200_000, tasks // 5))
    results = [
        Result(
            name=f"{FEW_WORKERS:,} workers, {tasks:,} tasks of {SHAPES} shapes", value=few["seconds"], unit="s",
            goal="120 s of a million" if not quick else "",
        ),
        Result(name="  memory", value=few["rss_mib"], unit="MiB", goal="< 2,000"),
        Result(name="  tasks a second", value=few["rate"], unit="/s"),
        Result(name=f"{MANY_WORKERS:,} workers: tasks a second, of that", value=many["rate"] / few["rate"], unit="",
               goal="0.8"),
    ]  # fmt: skip
    ratios = [live_ratio(SEED + number) for number in range(1 if quick else 3)]
    results.append(median_of("mean wait on a live cluster, of that in its replay", ratios, "", goal="0.9 to 1.1"))
    return results


def simulate(workers: int, tasks: int) -> dict[str, float]:
    """Run one plan, and say how it went."""
    began = time.perf_counter()
    kinds = [WorkerPlan(count=workers, cpu=4000, memory=16_000)]
    load = LoadPlan(mix="mixed", shapes=SHAPES, tasks=tasks, rate=1.0)
    rate = fitting_rate(load, capacity_millicores=capacity_of(Plan(workers=kinds)), part=BUSY_PART)
    plan = Plan(workers=kinds, load=[LoadPlan(mix="mixed", shapes=SHAPES, tasks=tasks, rate=rate)])
    report = run_plan(plan, arrivals_of(plan, {})).report
    assert report.completed == tasks, report
    seconds = time.perf_counter() - began
    rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "rate": tasks / seconds, "rss_mib": rss_mib}


def live_ratio(seed: int) -> float:
    """Let sleeps come to a cluster at random, replay what it has on record, and compare the mean waits."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="rota-bench-", dir=disk_directory()) as name:
        state_dir = Path(name) / "state"
        arguments = ("--resources", f"cpu={1000 * LIVE_LANES},memory={LIVE_LANES * 64}")
        with cluster(workers=1, state_dir=state_dir, arguments=arguments) as running:
            due = time.monotonic()
            for _ in range(LIVE_TASKS):
                due += chance.expovariate(LIVE_LANES * LIVE_BUSY_PART / LIVE_MEAN_S)
                time.sleep(max(0.0, due - time.monotonic()))
                running.client.submit({"command": ["sleep", f"{chance.expovariate(1 / LIVE_MEAN_S):.3f}"]})
            while running.client.stats()["tasks"]["completed"] < LIVE_TASKS:
                time.sleep(0.1)
        command = [sys.executable, "-m", "rota", "simulate", "--json", "--from-history", str(state_dir)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    was, would_be = json.loads(done.stdout)
    waited: Any = was["waiting_s"]["mean"]
    return float(waited / would_be["waiting_s"]["mean"])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(simulate(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
