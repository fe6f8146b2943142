"""What the benchmarks share: a calibration loop, a cluster of real processes, and how results are shown."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from rota.client.http import HttpClient

__all__ = [
    "Cluster",
    "Result",
    "ask_module",
    "calibrate",
    "cluster",
    "disk_directory",
    "file_system_of",
    "median_of",
    "percentile",
    "show",
    "timed",
]

CALIBRATION_STEPS: Final = 3_000_000

IN_MEMORY: Final = ("tmpfs", "ramfs")
"""File systems on which an fsync costs nothing."""

LOG_CHARACTERS_MAX: Final = 4_000
"""Of what a cluster that did not come up has written, the last."""

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measured figure, with its goal where the design names one.

    ``rounds`` are the figures of all rounds, of which ``value`` is the median.
    """

    name: str
    value: float
    unit: str
    goal: str = ""
    rounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its address, a client, the process of ``rota up`` and its coordinator's."""

    url: str
    client: HttpClient
    pid: int
    coordinator_pid: int


def calibrate() -> float:
    """Return how fast this machine is just now: millions of steps of a plain Python loop a second."""
    began = time.perf_counter()
    total = 0
    for number in range(CALIBRATION_STEPS):
        total += number
    return CALIBRATION_STEPS / (time.perf_counter() - began) / 1e6


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds a call took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_of(name: str, rounds: Sequence[float], unit: str, *, goal: str = "") -> Result:
    """Make a result of the median of several rounds."""
    return Result(name=name, value=statistics.median(rounds), unit=unit, goal=goal, rounds=tuple(rounds))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that so great a share of the values, 0 to 1, does not exceed.

    >>> percentile([4, 1, 3, 2], 0.5), percentile([1, 2, 3], 0.99)
    (2, 3)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ask_module(name: str, *arguments: object) -> dict[str, float]:
    """Run a module as a program, in a fresh process; return the JSON object that it prints last."""
    command = [sys.executable, "-m", name, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} ended with {done.returncode}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def disk_directory() -> Path:
    """Return a directory for temporary files on a real disk, where an fsync costs what it costs."""
    mounts = Path("/proc/self/mounts").read_text()
    for candidate in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()):
        if candidate.is_dir() and file_system_of(candidate, mounts) not in IN_MEMORY:
            return candidate
    raise SystemExit("found no directory on a disk: set TMPDIR to one, durable writes to memory mean nothing")


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that a path is on, by what ``/proc/self/mounts`` says.

    The deepest mount point counts, and of several mounts on one point the last, which hides the others.
    """
    found, depth = "", 0
    for line in mounts.splitlines():
        _device, point, kind = line.split()[:3]
        if len(Path(point).parts) >= depth and path.resolve().is_relative_to(point):
            found, depth = kind, len(Path(point).parts)
    return found


@contextmanager
def cluster(*, workers: int, state_dir: Path | None = None, arguments: Sequence[str] = ()) -> Iterator[Cluster]:
    """Start ``rota up`` on a free port, and stop it in the end."""
    directory = state_dir or Path(tempfile.mkdtemp(prefix="rota-bench-", dir=disk_directory()))
    command = [
        sys.executable,
        "-m",
        "rota",
        "up",
        f"--workers={workers}",
        "--port=0",
        "--grpc-port=off",
        f"--state-dir={directory}",
    ]
    try:
        with (
            tempfile.TemporaryFile(mode="w+") as log,
            subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                url = _address_of(process, log)
                with HttpClient(url) as client:
                    yield Cluster(url, client, process.pid, coordinator_of(process.pid))
            finally:
                process.terminate()
                process.wait(timeout=60)
    finally:
        if state_dir is None:
            shutil.rmtree(directory, ignore_errors=True)


def _address_of(process: subprocess.Popen[str], log: IO[str]) -> str:
    assert process.stdout is not None
    greeting = process.stdout.readline()
    address = re.search(r"http://\S+", greeting)
    if address is None:
        log.seek(0)
        raise SystemExit(f"the cluster did not come up: {greeting}{log.read()[-LOG_CHARACTERS_MAX:]}")
    return address[0]


def coordinator_of(parent: int) -> int:
    """Find the coordinator among the children of ``rota up``."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"coordinator" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
            return int(child)
    raise SystemExit("there is no coordinator process")


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def show(results: Sequence[Result]) -> None:
    """Print a table: figure, median, spread over the rounds, goal."""
    for result in results:
        spread = f"{min(result.rounds):,.4g} … {max(result.rounds):,.4g}" if len(result.rounds) > 1 else ""
        value = f"{result.value:,.4g}" if result.value < 1000 else f"{result.value:,.0f}"
        goal = f"goal {result.goal}" if result.goal else ""
        sys.stdout.write(f"{result.name:58} {value:>10} {result.unit:10} {spread:24} {goal}\n")
    sys.stdout.flush()
