"""Who uses the processor: the time of each part of a cluster, read from ``/proc``.

A *role* is a part of the cluster, found by where its process stands in the tree below ``rota up``: the coordinator
(its main thread is the loop), agents, and below each agent keepers, their slots, and what runs in those. The time
of a process that ended is its parent's ``children`` time and counts for the role that it had, so runners that
are replaced in the middle are not forgotten.

Ticks of 10 ms: read it around at least a second of work.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = [
    "BELOW_AGENT",
    "PARTS",
    "Process",
    "children_of",
    "cpu_by_part",
    "each_task",
    "is_coordinator",
    "machine_busy_s",
    "parse_busy_s",
    "parse_stat",
    "spent",
]

BELOW_AGENT: Final = ("keepers", "slots", "runners")
"""By depth; what runners start counts as theirs."""

PARTS: Final = (
    "client, calling thread",
    "client, other threads",
    "coordinator, loop",
    "coordinator, store's writer",
    "coordinator, other threads",
    "agents",
    *BELOW_AGENT,
)

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """What ``/proc/PID/stat`` says of a process, or of one thread."""

    name: str
    parent: int
    cpu_s: float
    reaped_cpu_s: float


def parse_stat(text: str, *, tick_s: float = TICK_S) -> Process:
    """Read a line of ``/proc/PID/stat``. A name may have spaces and parentheses in it.

    >>> parse_stat("7 (a b) c) S 1 7 7 0 -1 4 9 0 0 0 150 50 3 4 20 0", tick_s=0.01)
    Process(name='a b) c', parent=1, cpu_s=2.0, reaped_cpu_s=0.07)
    """
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    user, system, reaped_user, reaped_system = (int(field) for field in fields[11:15])
    return Process(
        name=head.partition("(")[2],
        parent=int(fields[1]),
        cpu_s=(user + system) * tick_s,
        reaped_cpu_s=(reaped_user + reaped_system) * tick_s,
    )


def cpu_by_part(cluster_pid: int, client_pid: int) -> dict[str, float]:
    """Return the seconds of processor that each part has used since it began.

    Args:
        cluster_pid: The process of ``rota up``.
        client_pid: The process with the client in it.
    """
    used: defaultdict[str, float] = defaultdict(float)
    _add_threads(used, client_pid, "client", {}, main="calling thread")
    for child in children_of(cluster_pid):
        if is_coordinator(child):
            _add_threads(used, child, "coordinator", {"store-writer": "store's writer"}, main="loop")
        else:
            _add_tree(used, child, ("agents", *BELOW_AGENT))
    return used


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what each part has used between two readings: never less than nothing, though a process may be gone."""
    return {part: max(0.0, after[part] - before.get(part, 0.0)) for part in after}


def each_task(used: Mapping[str, float], tasks: int) -> dict[str, float]:
    """Return microseconds a task by part, in the order in which a task meets them."""
    return {part: 1e6 * used.get(part, 0.0) / tasks for part in PARTS}


def machine_busy_s() -> float:
    """Return for how many seconds all cores together have been busy since the machine started."""
    return parse_busy_s(Path("/proc/stat").read_text())


def parse_busy_s(text: str, *, tick_s: float = TICK_S) -> float:
    """Read the first line of ``/proc/stat``: all but idle, waiting for the disk, and what guests count twice.

    >>> parse_busy_s("cpu  100 0 50 900 30 5 5 0 0 0", tick_s=0.01)
    1.6
    """
    user, nice, system, _idle, _waiting, *interrupts = (int(field) for field in text.split(maxsplit=8)[1:8])
    return (user + nice + system + sum(interrupts)) * tick_s


def children_of(pid: int) -> list[int]:
    """Return the children of a process, of all its threads; none if it is gone."""
    try:
        threads = sorted(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []


def _add_threads(used: defaultdict[str, float], pid: int, process: str, known: Mapping[str, str], *, main: str) -> None:
    """Add the main thread, those with a known name, and all others together: they may have ended meanwhile."""
    whole = _read(f"/proc/{pid}/stat")
    if whole is None:
        return
    others_s = whole.cpu_s
    for tid in os.listdir(f"/proc/{pid}/task"):
        thread = _read(f"/proc/{pid}/task/{tid}/stat")
        name = main if int(tid) == pid else known.get(thread.name) if thread is not None else None
        if thread is not None and name is not None:
            used[f"{process}, {name}"] += thread.cpu_s
            others_s -= thread.cpu_s
    used[f"{process}, other threads"] += max(0.0, others_s)


def _add_tree(used: defaultdict[str, float], pid: int, roles: tuple[str, ...]) -> None:
    process = _read(f"/proc/{pid}/stat")
    if process is None:
        return
    below = roles[1:] or roles
    used[roles[0]] += process.cpu_s
    used[below[0]] += process.reaped_cpu_s
    for child in children_of(pid):
        _add_tree(used, child, below)


def _read(path: str) -> Process | None:
    try:
        return parse_stat(Path(path).read_text())
    except OSError:
        return None  # it ended meanwhile


def is_coordinator(pid: int) -> bool:
    """Tell by its command line; a process that is gone is none."""
    try:
        return b"coordinator" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
