"""A cluster's own history as a plan: its workers, its tasks as they came, and what really became of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from rota.core.errors import BadRequest
from rota.core.limits import LIMIT_KIND
from rota.core.model import (
    AttemptRecord,
    Cause,
    Offer,
    Progress,
    Setting,
    SyntheticWork,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerRecord,
)
from rota.core.queues import QUEUE_KIND
from rota.core.spec import TaskSpec, decode_spec, resources_of, terms_of
from rota.simulator.columns import Plight
from rota.simulator.load import Arrival
from rota.simulator.plan import WorkerPlan
from rota.simulator.report import QueueReport, RunReport, distribution_of, slowdown_of

__all__ = ["History", "more_workers", "read_history"]

NAME_CHARS_MAX = 200


class History(Struct, frozen=True):
    """What a cluster did. ``left_out`` counts tasks that never ran, or have not ended: nobody knows how long they take.

    ``settings`` are its queues and limits; reservations were of their time.
    """

    workers: list[WorkerPlan]
    arrivals: list[Arrival]
    settings: list[Setting]
    report: RunReport
    left_out: int


def read_history(
    tasks: Iterable[TaskRecord],
    *,
    workers: Sequence[WorkerRecord],
    settings: Sequence[Setting],
    attempts: Sequence[AttemptRecord],
) -> History:
    """Make a plan of records.

    Args:
        tasks: All of them, in whatever order.
        workers: Those that the store knows.
        settings: What operators have set.
        attempts: Superseded ones, whose work was in vain.

    Raises:
        BadRequest: Nothing of it can be run again.
    """
    ran: list[tuple[TaskRecord, TaskSpec]] = []
    left_out = 0
    for task in tasks:
        progress = task.progress
        if progress.started_at is None or progress.ended_at is None:
            left_out += 1
        else:
            ran.append((task, decode_spec(task.facts.spec)))
    if not ran:
        raise BadRequest("no task of this history has run to its end, so there is nothing to replay")
    ran.sort(key=lambda pair: (_comes_at(pair[0]), pair[0].facts.seq))
    used = {task.progress.worker for task, _ in ran}
    offers = [(str(worker.id), worker.offer) for worker in workers if worker.lost_at is None or worker.id in used]
    if not offers:
        raise BadRequest("the history knows no worker any more: say which there are, with --workers")
    plans = [_worker_of(name, offer) for name, offer in offers]
    return History(
        workers=plans,
        arrivals=_arrivals_of(ran),
        settings=[setting for setting in settings if setting.kind in (QUEUE_KIND, LIMIT_KIND)],
        report=_report_of(ran, plans, attempts),
        left_out=left_out,
    )


def more_workers(workers: Sequence[WorkerPlan], count: int) -> list[WorkerPlan]:
    """The workers, and so many more of the kind that there are most of."""
    kinds = Counter(str(replace(worker, name="", count=1)) for worker in workers)
    usual = kinds.most_common(1)[0][0]
    model = next(worker for worker in workers if str(replace(worker, name="", count=1)) == usual)
    return [*workers, *(replace(model, name=f"added-{number}", count=1) for number in range(1, count + 1))]


def _comes_at(task: TaskRecord) -> float:
    return max(task.facts.created_at, task.facts.start_at or 0.0)


def _worker_of(name: str, offer: Offer) -> WorkerPlan:
    amounts = dict(offer.resources)
    return WorkerPlan(
        name=name,
        cpu=amounts.pop("cpu", 0),
        memory=amounts.pop("memory", 0),
        gpus=[card.memory_mib for card in offer.gpus],
        resources=amounts,
        tags=sorted(offer.tags),
        max_tasks=offer.max_tasks,
    )


def _arrivals_of(ran: Sequence[tuple[TaskRecord, TaskSpec]]) -> list[Arrival]:
    first = _comes_at(ran[0][0])
    templates: dict[str, TaskSpec] = {}
    arrivals = []
    for task, spec in ran:
        template = _template_of(spec, run_s=_run_s(task))
        template = templates.setdefault(repr(template), template)
        arrivals.append(Arrival(_comes_at(task) - first, template, SyntheticWork("cpu", _run_s(task))))
    return arrivals


def _template_of(spec: TaskSpec, *, run_s: float) -> TaskSpec:
    """What matters of a task for where and when it runs. How it would have failed does not: it takes as long.

    So a time-out that was over is left out, and one that was not is kept, because backfill goes by it.
    """
    return TaskSpec(
        name=terms_of(spec).class_key[:NAME_CHARS_MAX],
        resources=spec.resources,
        tags=spec.tags,
        queue=spec.queue,
        priority=spec.priority,
        placement=spec.placement,
        affinity=spec.affinity,
        limits=spec.limits,
        timeout=spec.timeout if spec.timeout is not None and run_s < spec.timeout else None,
        exclusive=spec.exclusive,
        gang=spec.gang,
    )


def _run_s(task: TaskRecord) -> float:
    progress = task.progress
    assert progress.started_at is not None
    assert progress.ended_at is not None
    return max(0.0, progress.ended_at - progress.started_at)


def _first_start(task: TaskRecord, superseded: Sequence[AttemptRecord]) -> float:
    """When a task began for the first time: what it waits for after that is the doing of what ended it."""
    starts = [task.progress.started_at, *(attempt.started_at for attempt in superseded)]
    return min(start for start in starts if start is not None)


def _report_of(
    ran: Sequence[tuple[TaskRecord, TaskSpec]], workers: Sequence[WorkerPlan], attempts: Sequence[AttemptRecord]
) -> RunReport:
    """What really happened, in the numbers in which a simulation is told."""
    progress = [task.progress for task, _ in ran]
    attempts_of: dict[TaskSeq, list[AttemptRecord]] = {}
    for attempt in attempts:
        attempts_of.setdefault(attempt.seq, []).append(attempt)
    started = [_first_start(task, attempts_of.get(task.facts.seq, ())) for task, _ in ran]
    ended = [each.ended_at or 0.0 for each in progress]
    comes = [_comes_at(task) for task, _ in ran]
    waits = [max(0.0, start - come) for start, come in zip(started, comes, strict=True)]
    cores = [dict(resources_of(spec)).get("cpu", 0) / 1000 for _, spec in ran]
    makespan_s = max(ended) - min(comes)
    core_s = [core * _run_s(task) for core, (task, _) in zip(cores, ran, strict=True)]
    offered = sum(worker.cpu * worker.count for worker in workers) / 1000 * makespan_s
    states = Counter(each.state for each in progress)
    lost: dict[str, float] = {}
    for attempt in attempts:
        if attempt.started_at is not None and attempt.cause is not None:
            lost[attempt.cause.value] = lost.get(attempt.cause.value, 0.0) + attempt.ended_at - attempt.started_at
    slowdowns = [slowdown_of(end - come, _run_s(task)) for end, come, (task, _) in zip(ended, comes, ran, strict=True)]
    return RunReport(
        placement="as it was",
        ordering="as it was",
        seed=0,
        workers=len(workers),
        tasks=len(ran),
        completed=states[TaskState.COMPLETED],
        failed=states[TaskState.FAILED],
        cancelled=states[TaskState.CANCELLED],
        unfinished=0,
        makespan_s=makespan_s,
        waiting_s=distribution_of(waits),
        slowdown=distribution_of(slowdowns),
        utilisation=math.fsum(core_s) / offered if offered else 0.0,
        workers_in_use=_workers_in_use(ran, makespan_s),
        fairness=None,
        decisions=len(ran) + len(attempts),
        preemptions=sum(attempt.cause is Cause.PREEMPTED for attempt in attempts),
        lost_work_s=dict(sorted(lost.items())),
        failures=_failures_of(progress),
        waits=[],
        queues=_queues_of(ran, waits, core_s),
    )


def _failures_of(progress: Sequence[Progress]) -> list[Plight]:
    failed = [each for each in progress if each.state is TaskState.FAILED]
    causes = Counter(each.cause.value for each in failed if each.cause is not None)
    examples = {each.cause.value: each.message or "" for each in reversed(failed) if each.cause is not None}
    return [Plight(cause, count, examples[cause]) for cause, count in sorted(causes.items())]


def _queues_of(
    ran: Sequence[tuple[TaskRecord, TaskSpec]], waits: Sequence[float], core_s: Sequence[float]
) -> list[QueueReport]:
    names = sorted({task.facts.queue for task, _ in ran})
    reports = []
    for name in names:
        mine = [at for at, (task, _) in enumerate(ran) if task.facts.queue == name]
        waited = math.fsum(waits[at] for at in mine)
        reports.append(QueueReport(name, len(mine), waited / len(mine), math.fsum(core_s[at] for at in mine)))
    return reports


def _workers_in_use(ran: Sequence[tuple[TaskRecord, TaskSpec]], makespan_s: float) -> float:
    """How many had something to do, on average: the union of what ran on each, over the whole time."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for task, _ in ran:
        progress = task.progress
        if progress.worker is not None and progress.started_at is not None and progress.ended_at is not None:
            spans.setdefault(str(progress.worker), []).append((progress.started_at, progress.ended_at))
    used_s = 0.0
    for mine in spans.values():
        until = -math.inf
        for start, end in sorted(mine):
            used_s += max(0.0, end - max(start, until))
            until = max(until, end)
    return used_s / makespan_s if makespan_s else 0.0
