"""Placements a second in the core alone: from pending to assigned, with attempt, reservation and effects made.

No clock, store or channel has a part in it: a scheduler, workers that said hello, and one `apply` that places. In
batches, thousands of like tasks are placed by one turn, each with a lane of its own; one at a time, a turn accepts and
places a single task. The time in which tasks come to wait, and in which workers get free again, is not measured.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from benchmarks.harness import Result
from rota.core.commands import Command, Draft, ReplyTo, SessionId, SubmitTasks, WorkerHello
from rota.core.config import SchedulerConfig
from rota.core.model import Epoch, Offer, TaskSeq, WorkerId
from rota.core.placement.policies import POLICIES
from rota.core.protocol import PROTOCOL_VERSION, Hello
from rota.core.scheduler import Scheduler
from rota.core.spec import TaskSpec, encode_spec, terms_of

__all__ = ["run"]

FEW_WORKERS: Final = 500
MANY_WORKERS: Final = 10_000
FEW_PENDING: Final = 1_000
MANY_PENDING: Final = 1_000_000

BATCH: Final = 20_000
"""Tasks that a batch places: two lanes a worker with many workers."""

SINGLES: Final = 4_000
"""Tasks that are placed one at a time."""

GOALS: Final = {"consistent-hash": "150,000"}
GOAL_BATCH: Final = "500,000"
GOAL_SINGLE: Final = "100,000"

QUIET: Final = SchedulerConfig(heartbeat_s=1e6, suspicious_after_s=2e6, offline_after_s=3e6, forget_after_s=1e9)


def run(*, quick: bool = False) -> list[Result]:
    """Measure every policy with few and many workers, and with few and many pending tasks."""
    return list(_results(rounds=2 if quick else 5, pending=100_000 if quick else MANY_PENDING))


def _results(*, rounds: int, pending: int) -> Iterator[Result]:
    for name in POLICIES:
        goal = f"{GOALS.get(name, GOAL_BATCH)}/s"
        few = _rates(rounds, lambda name=name: batch_rate(name, workers=FEW_WORKERS))
        many = _rates(rounds, lambda name=name: batch_rate(name, workers=MANY_WORKERS))
        yield _result(f"{name}: batches, {FEW_WORKERS:,} workers", few, goal=goal)
        yield _result(f"{name}: batches, {MANY_WORKERS:,} workers", many, goal="within 20 %")
        single = _rates(rounds, lambda name=name: single_rate(name, workers=FEW_WORKERS))
        single_many = _rates(rounds, lambda name=name: single_rate(name, workers=MANY_WORKERS))
        yield _result(f"{name}: one at a time, {FEW_WORKERS:,} workers", single, goal=f"{GOAL_SINGLE}/s")
        yield _result(f"{name}: one at a time, {MANY_WORKERS:,} workers", single_many, goal="within 20 %")
    for waiting in (FEW_PENDING, pending):
        rates = _rates(rounds, lambda waiting=waiting: pending_rate(waiting))
        yield _result(f"least-loaded: {FEW_PENDING:,} a turn, {waiting:,} pending", rates, goal="within 20 %")


def batch_rate(name: str, *, workers: int, lanes: int = BATCH) -> float:
    """Place many like tasks, which waited, when the workers come; return tasks a second."""
    bench = Bench(name, workers=workers, cpu=1000 * -(-2 * lanes // workers))
    bench.hold(True)
    bench.submit(lanes)
    bench.hold(False)
    return lanes / bench.timed_turn(lanes)


def single_rate(name: str, *, workers: int, tasks: int = SINGLES) -> float:
    """Accept and place single tasks, each by a turn of its own; return turns a second."""
    bench = Bench(name, workers=workers, cpu=1000 * -(-4 * tasks // workers))
    bench.submit(workers // 10)  # a load that is not all the same, and an index that is there
    command = SubmitTasks([bench.draft()], ReplyTo(1))
    with no_collector():
        began = time.perf_counter()
        for _ in range(tasks):
            bench.do(command)
        return tasks / (time.perf_counter() - began)


def pending_rate(waiting: int, *, turns: int = 8) -> float:
    """Place tasks, a thousand a turn, while so many others wait behind them; return tasks a second.

    What has just come is in the processor's cache, what waits behind a million is not, whoever places it; so a first
    turn is not measured, and before each of the others as many tasks come as it places.
    """
    bench = Bench("least-loaded", workers=FEW_WORKERS, cpu=1_000_000)
    each = FEW_PENDING // FEW_WORKERS
    with no_collector():
        bench.allow(each)
        bench.submit(FEW_PENDING - 1)  # one is there already
        bench.submit(waiting)
        seconds: list[float] = []
        for turn in range(1, turns + 1):
            bench.submit(FEW_PENDING)
            bench.allow(each * (turn + 1))
            seconds.append(bench.timed_turn(FEW_PENDING))
    return FEW_PENDING / statistics.mean(seconds[1:])


class Bench:
    """A scheduler with workers that have said hello. Nothing that it wants saved or sent goes anywhere."""

    def __init__(self, name: str, *, workers: int, cpu: int) -> None:
        config = SchedulerConfig(
            heartbeat_s=QUIET.heartbeat_s,
            suspicious_after_s=QUIET.suspicious_after_s,
            offline_after_s=QUIET.offline_after_s,
            placement=name,
        )
        self.scheduler = Scheduler(config, cluster_id="c", epoch=Epoch(1), next_seq=TaskSeq(1), now=0.0, wall=1e9)
        hellos = []
        for number in range(workers):
            offer = Offer((("cpu", cpu), ("memory", 1_000_000)), frozenset({f"zone={number % 3}"}))
            said = Hello(PROTOCOL_VERSION, WorkerId(f"w{number}"), "i", offer, None, [], [], 1e9)
            hellos.append(WorkerHello(SessionId(number + 1), said))
        self.do(*hellos)
        self.submit(1)  # what is made once for all, such as a ring, is there

    def do(self, *commands: Command) -> None:
        """Apply commands as one turn."""
        self.scheduler.apply(commands, now=1.0, wall=1e9)

    def draft(self) -> Draft:
        """A plain task that asks for a core and some memory."""
        spec = TaskSpec(command=["true"], resources={"memory": 10})
        return Draft(chosen_id=None, terms=terms_of(spec), spec=encode_spec(spec))

    def submit(self, count: int) -> None:
        """Let tasks come in one turn."""
        self.do(SubmitTasks([self.draft()] * count, ReplyTo(1)))

    def hold(self, is_held: bool) -> None:
        """Let nobody, or everybody, take new work, without a word."""
        cluster = self.scheduler.state.cluster
        for worker in cluster.workers.values():
            worker.drained = is_held
            cluster.worker_changed(worker)
        if is_held:
            self.do()

    def allow(self, lanes: int) -> None:
        """Let each worker have so many lanes."""
        cluster = self.scheduler.state.cluster
        for worker in cluster.workers.values():
            worker.max_tasks = lanes
            cluster.worker_changed(worker)

    def timed_turn(self, placed: int) -> float:
        """Run one turn, which must place so many tasks; return the seconds that it took."""
        counts = self.scheduler.state.counts
        before = counts.attempts_assigned
        with no_collector():
            began = time.perf_counter()
            self.do()
            seconds = time.perf_counter() - began
        assert counts.attempts_assigned - before == placed, (counts.attempts_assigned - before, placed)
        return seconds


@contextmanager
def no_collector() -> Iterator[None]:
    """Keep the cyclic collector away, as in the coordinator."""
    was_enabled = gc.isenabled()
    if was_enabled:
        gc.collect()
        gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _rates(rounds: int, measure: object) -> tuple[float, ...]:
    assert callable(measure)
    return tuple(measure() for _ in range(rounds))


def _result(name: str, rates: Sequence[float], *, goal: str) -> Result:
    return Result(name=name, value=statistics.median(rates), unit="/s", goal=goal, rounds=tuple(rates))
