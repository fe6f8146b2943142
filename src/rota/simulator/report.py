"""What a run came to: waiting, slowdown, use, fairness, and what was done in vain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from rota.core.model import Cause, TaskState
from rota.simulator.columns import Columns, Plight

__all__ = ["Distribution", "QueueReport", "RunReport", "distribution_of", "make_report", "slowdown_of"]

SLOWDOWN_FLOOR_S: Final = 1.0
"""What runs for less counts as this long, or a millisecond's wait of a quick task would weigh like a day."""


class Distribution(Struct, frozen=True):
    """How something is distributed over tasks, in seconds or as a factor."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class QueueReport(Struct, frozen=True):
    """A queue: how many tasks it had, how long they waited, and how much of the cluster it got, in core seconds."""

    name: str
    tasks: int
    waiting_mean_s: float
    core_s: float


class RunReport(Struct, frozen=True, kw_only=True):
    """A run in numbers.

    ``waiting_s`` is from when a task came until it began for the first time; ``slowdown`` is the time from there to
    its end in parts of what it ran, which counts as a second at least. ``utilisation`` is the part of the cores that
    worked, ``workers_in_use`` how many workers had anything to do, on average, both from the first arrival until
    nothing ran any more, or the run was stopped. ``fairness`` is Jain's index of what each queue got, in parts of
    what its weight gave it while others waited; ``None`` if they never had to share. ``lost_work_s`` are seconds of
    attempts that ended in vain, by cause. ``failures`` say of what tasks failed, ``waits`` what those wait for that
    had not begun at the end.
    """

    placement: str
    ordering: str
    seed: int
    workers: int
    tasks: int
    completed: int
    failed: int
    cancelled: int
    unfinished: int
    makespan_s: float
    waiting_s: Distribution
    slowdown: Distribution
    utilisation: float
    workers_in_use: float
    fairness: float | None
    decisions: int
    preemptions: int
    lost_work_s: dict[str, float]
    failures: list[Plight]
    waits: list[Plight]
    queues: list[QueueReport]


def make_report(columns: Columns, *, placement: str, ordering: str, seed: int, capacity_millicores: int) -> RunReport:
    """Sum up a run that is over."""
    tasks = columns.tasks
    first = min(columns.created, default=0.0)
    last = max((at for at in columns.ended if not math.isnan(at)), default=first)
    makespan_s = max(0.0, last - first)
    used = sum(cpu * (over - began) for cpu, began, over in zip(columns.cpu, columns.began, columns.over, strict=True))
    span_s = max(makespan_s, max(columns.over, default=first) - first)
    offered = capacity_millicores * span_s
    ended = sum(columns.of_state(state) for state in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED))
    return RunReport(
        placement=placement,
        ordering=ordering,
        seed=seed,
        workers=len(columns.workers),
        tasks=tasks,
        completed=columns.of_state(TaskState.COMPLETED),
        failed=columns.of_state(TaskState.FAILED),
        cancelled=columns.of_state(TaskState.CANCELLED),
        unfinished=tasks - ended,
        makespan_s=makespan_s,
        waiting_s=distribution_of(_waits(columns)),
        slowdown=distribution_of(_slowdowns(columns)),
        utilisation=used / offered if offered else 0.0,
        workers_in_use=sum(columns.used_s) / span_s if span_s else 0.0,
        fairness=columns.fairness.index(),
        decisions=len(columns.began),
        preemptions=columns.causes.get(Cause.PREEMPTED.value, 0),
        lost_work_s=dict(sorted(columns.lost_s.items())),
        failures=[columns.failures[cause] for cause in sorted(columns.failures)],
        waits=columns.waits,
        queues=_queues(columns),
    )


def distribution_of(values: Iterable[float]) -> Distribution:
    """Mean, percentiles (nearest rank) and maximum; zeros of nothing."""
    known = sorted(values)
    if not known:
        return Distribution(0.0, 0.0, 0.0, 0.0, 0.0)
    return Distribution(
        math.fsum(known) / len(known), _rank(known, 0.50), _rank(known, 0.95), _rank(known, 0.99), known[-1]
    )


def slowdown_of(took_s: float, ran_s: float) -> float:
    """How many times as long as it ran a task took from when it came."""
    return max(1.0, took_s / max(ran_s, SLOWDOWN_FLOOR_S))


def _rank(known: Sequence[float], part: float) -> float:
    return known[max(0, math.ceil(part * len(known)) - 1)]


def _waits(columns: Columns) -> Iterable[float]:
    pairs = zip(columns.created, columns.started, strict=True)
    return (max(0.0, started - created) for created, started in pairs if not math.isnan(started))


def _slowdowns(columns: Columns) -> Iterable[float]:
    for created, ended, ran in zip(columns.created, columns.ended, columns.ran, strict=True):
        if not (math.isnan(ended) or math.isnan(ran)):
            yield slowdown_of(ended - created, ran)


def _queues(columns: Columns) -> list[QueueReport]:
    count, waited, core_s = ([0.0] * len(columns.queues) for _ in range(3))
    for row in range(columns.tasks):
        queue = columns.queue[row]
        count[queue] += 1
        if not math.isnan(columns.started[row]):
            waited[queue] += max(0.0, columns.started[row] - columns.created[row])
    for row, cpu, began, over in zip(columns.of_task, columns.cpu, columns.began, columns.over, strict=True):
        core_s[columns.queue[row]] += cpu * (over - began) / 1000
    return [
        QueueReport(name, int(count[number]), waited[number] / count[number], core_s[number])
        for name, number in sorted(columns.queues.items())
    ]
