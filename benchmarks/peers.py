"""No-op functions beside the peers: other task queues, each by its own script, in the same run.

Two environment variables say where they are: ``PEERS_DIR``, the folder of the scripts, and ``PEERS_PYTHON``, the
interpreter with the peers installed (``PEERS_ARQ_PYTHON`` the one for arq, which needs another redis-py). A script
is run as ``python NAME_noop.py N`` and prints one line of JSON with ``tasks_per_s``, ``p50_ms`` and ``p99_ms``.
None of the peers waits for a disk; all have two worker processes, and share the cores with their client.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.functions import LANES, OFFER, WARM_UP, functions_per_second
from benchmarks.harness import Result, cluster, median_of, percentile
from benchmarks.round_trip import round_trips_ms
from benchmarks.work import connect, wait_for_lanes

__all__ = ["PEERS", "Peer", "Report", "find_peers", "parse_report", "run"]

TIMEOUT_S: Final = 240.0
STOP_S: Final = 30.0
"""For a script that is interrupted to stop its servers."""

COUNT: Final = 100_000
ROUND_TRIPS: Final = 200
"""As many as the scripts do."""


@dataclass(frozen=True)
class Peer:
    """One system: its script, how many tasks it gets, what more it is told, and the ratio wanted."""

    name: str
    script: str
    count: int
    arguments: tuple[str, ...] = ()
    goal: str = ""
    python: str = "PEERS_PYTHON"


PEERS: Final = (
    Peer("multiprocessing.Pool(2)", "limit_pool.py", 200_000, goal="0.75"),
    Peer("huey", "huey_noop.py", 20_000, goal="17"),
    Peer("dramatiq", "dramatiq_noop.py", 20_000, goal="20"),
    Peer("dask, tuned", "dask_noop.py", 20_000, goal="20"),
    Peer("ray", "ray_noop.py", 20_000, goal="34"),
    Peer("taskiq", "taskiq_noop.py", 10_000),
    Peer("arq", "arq_noop.py", 10_000, python="PEERS_ARQ_PYTHON"),
    Peer("procrastinate", "procrastinate_noop.py", 5_000),
    Peer("dask, default", "dask_noop.py", 5_000, ("default",), goal="90"),
    Peer("celery", "celery_noop.py", 10_000, goal="90"),
    Peer("rq", "rq_noop.py", 5_000),
    Peer("rq, forking", "rq_noop.py", 1_000, ("fork",)),
)


@dataclass(frozen=True)
class Report:
    """What a script found out: the rate, and one round trip after another."""

    tasks_per_s: float
    p50_ms: float
    p99_ms: float


def run(*, quick: bool) -> list[Result]:
    """Alternate: ours, then each peer. A peer that is missing or fails is told of and left out."""
    peers = find_peers(os.environ)
    if not peers:
        sys.stdout.write("left out: PEERS_DIR and PEERS_PYTHON name no scripts and interpreter to run them with\n")
        return []
    shrink, rounds = (10, 1) if quick else (1, 5)
    ours: list[Report] = []
    theirs: dict[Peer, list[Report]] = {}
    ratios: dict[Peer, list[float]] = {}
    for _ in range(rounds):
        ours.append(measure_ours(COUNT // shrink))
        for peer in peers:
            report = run_peer(peer, max(100, peer.count // shrink))
            if report is not None:
                theirs.setdefault(peer, []).append(report)
                ratios.setdefault(peer, []).append(ours[-1].tasks_per_s / report.tasks_per_s)
    results = _lines("rota, durable", ours)
    for peer, reports in theirs.items():
        results += _lines(peer.name, reports)
        results.append(median_of(f"  rota is so many times as fast as {peer.name}", ratios[peer], "×", goal=peer.goal))
    return results


def find_peers(environment: Mapping[str, str]) -> list[Peer]:
    """Return the peers whose script and interpreter are there."""
    folder = environment.get("PEERS_DIR")
    if folder is None:
        return []
    return [
        peer
        for peer in PEERS
        if Path(environment.get(peer.python, "")).is_file() and (Path(folder) / peer.script).is_file()
    ]


def measure_ours(count: int) -> Report:
    """Measure a fresh cluster, as each script does with its system."""
    with cluster(workers=1, arguments=OFFER) as running, connect(running.url) as client:
        wait_for_lanes(client, LANES)
        functions_per_second(client, WARM_UP)
        rate = functions_per_second(client, count)
        taken_ms = round_trips_ms(client, ROUND_TRIPS)
    return Report(rate, percentile(taken_ms, 0.5), percentile(taken_ms, 0.99))


def run_peer(peer: Peer, count: int) -> Report | None:
    """Run a script to its end; return nothing, and say so, if it fails or takes too long."""
    folder = Path(os.environ["PEERS_DIR"])
    process = subprocess.Popen(
        [os.environ[peer.python], peer.script, str(count), *peer.arguments],
        cwd=folder,
        env=_environment(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        output = _stop(process)
    report = parse_report(output)
    if report is None:
        sys.stdout.write(f"{peer.name} is left out: {peer.script} ended with {process.returncode}, without a result\n")
    return report


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Without what tells our own programs where to go; nothing is to be written beside the scripts."""
    kept = {name: value for name, value in ours.items() if not name.startswith(("ROTA_", "PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "PATH": f"{ours.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin", "PYTHONDONTWRITEBYTECODE": "1"}


def parse_report(output: str) -> Report | None:
    """Read the last line that is a JSON object, among what else a script may print."""
    for line in reversed(output.splitlines()):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(line)
            return Report(float(found["tasks_per_s"]), float(found["p50_ms"]), float(found["p99_ms"]))
    return None


def _stop(process: subprocess.Popen[str]) -> str:
    """Interrupt a script, so that it stops its servers; then kill what is left of its session."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return ""


def _lines(name: str, reports: list[Report]) -> list[Result]:
    return [
        median_of(f"{name}: no-op functions", [report.tasks_per_s for report in reports], "tasks/s"),
        median_of("  one after another, median", [report.p50_ms for report in reports], "ms"),
        median_of("  99th percentile", [report.p99_ms for report in reports], "ms"),
    ]
