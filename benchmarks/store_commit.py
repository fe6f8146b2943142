"""What a commit costs: rows a second through the SQLite store, alone and beside a thread that is busy in Python.

Each task is accepted, assigned and ended, in turns of a given size: two rows the first time, one the others.
The busy thread is what a coordinator's event loop is under load: it gives the interpreter lock up only every
5 ms, so a store that needs the lock once a row stands still. The yardstick is plain ``executemany`` with the same
rows, into one table without an index, from the same thread.

Run: python -m benchmarks.store_commit [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from benchmarks.harness import Result, median_of, show
from rota.core.changes import Changes
from rota.core.model import LaneId, Progress, TaskFacts, TaskSeq, TaskState, WorkerId
from rota.store import SqliteStore
from rota.store.conformance import Leader, leading

SPEC: Final = b"\x81\xa7command\x91\xa4true"
ROUNDS: Final = 3
TURN_SIZES: Final = (1, 100, 1_000, 5_000)
SECONDS_A_ROUND: Final = 1.0
"""About: turns are made beforehand, from a guess of how many there will be time for."""

TURNS_A_SECOND: Final = {1: 1_000, 100: 300, 1_000: 60, 5_000: 15}


def accepted(seqs: range) -> Changes:
    facts = [
        TaskFacts(TaskSeq(seq), None, None, "default", 50, None, 1_700_000_000.0 + seq / 7, None, None, SPEC)
        for seq in seqs
    ]
    return Changes(accepted=facts, progress=[(one.seq, Progress(state=TaskState.PENDING)) for one in facts])


def moved(seqs: range, state: TaskState) -> Changes:
    """Assigned tasks, or ended ones with their output."""
    is_ended = state is TaskState.COMPLETED
    return Changes(
        progress=[
            (
                TaskSeq(seq),
                Progress(
                    state=state,
                    attempt=1,
                    worker=WorkerId("worker-1"),
                    instance="3f2a9b1c4d5e",
                    lane=LaneId(3),
                    place=seq,
                    queued_at=1_700_000_000.0 + seq / 3,
                    ended_at=1_700_000_001.0 + seq / 3 if is_ended else None,
                    exit_code=0 if is_ended else None,
                    cpu_seconds=0.00123 if is_ended else None,
                    stdout=b"hello\n" if is_ended else b"",
                ),
            )
            for seq in seqs
        ]
    )


@contextmanager
def busy_thread() -> Iterator[None]:
    """Another thread that computes all the time."""
    is_over = threading.Event()

    def compute() -> None:
        while not is_over.is_set():
            sum(range(100))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


async def commit_all(leader: Leader, turns: list[Changes]) -> float:
    began = time.perf_counter()
    for turn in turns:
        await leader.commit(turn)
    return time.perf_counter() - began


async def tasks_a_second(size: int, *, is_busy: bool, seconds: float) -> list[float]:
    """Tasks a second that are accepted, assigned, and ended."""
    count = max(3, round(TURNS_A_SECOND[size] * seconds / (5 if is_busy else 1)))
    ranges = [range(1 + turn * size, 1 + (turn + 1) * size) for turn in range(count)]
    kinds = (
        [accepted(seqs) for seqs in ranges],
        [moved(seqs, TaskState.ASSIGNED) for seqs in ranges],
        [moved(seqs, TaskState.COMPLETED) for seqs in ranges],
    )
    with tempfile.TemporaryDirectory() as directory:
        async with leading(lambda: SqliteStore(Path(directory))) as leader:
            if not is_busy:
                return [count * size / await commit_all(leader, turns) for turns in kinds]
            with busy_thread():
                return [count * size / await commit_all(leader, turns) for turns in kinds]


def yardstick_rows_a_second(rows: int) -> float:
    """Rows a second of ``executemany`` in one transaction."""
    with tempfile.TemporaryDirectory() as directory:
        connection = apsw.Connection(str(Path(directory) / "yardstick.db"))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (seq INTEGER PRIMARY KEY, data BLOB)")
        began = time.perf_counter()
        with connection:
            connection.executemany("INSERT INTO t VALUES (?, ?)", [(seq, SPEC * 5) for seq in range(rows)])
        took = time.perf_counter() - began
        connection.close()
    return rows / took


def run(*, quick: bool) -> list[Result]:
    """Measure all sizes, alone and busy."""
    results: list[Result] = []
    seconds = SECONDS_A_ROUND / (4 if quick else 1)
    for size in TURN_SIZES:
        for is_busy in (False, True):
            beside = "beside a busy thread" if is_busy else "alone"
            rounds = [asyncio.run(tasks_a_second(size, is_busy=is_busy, seconds=seconds)) for _ in range(ROUNDS)]
            for verb, figures in zip(("accepted", "assigned", "ended"), zip(*rounds, strict=True), strict=True):
                results.append(median_of(f"{verb}, {size:,} a turn, {beside}", figures, "tasks/s"))
    alone = [yardstick_rows_a_second(100_000) for _ in range(ROUNDS)]
    results.append(median_of("yardstick: executemany, alone", alone, "rows/s"))
    with busy_thread():
        busy = [yardstick_rows_a_second(200) for _ in range(ROUNDS)]  # more would take minutes
    results.append(median_of("yardstick: executemany, beside a busy thread", busy, "rows/s"))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter rounds")
    show(run(quick=parser.parse_args().quick))
