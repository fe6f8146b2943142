"""A cluster's own history: what of its records is replayed, and what is told of what did happen."""

from __future__ import annotations

from typing import Any

import pytest

from rota.core.errors import BadRequest
from rota.core.model import (
    AttemptRecord,
    Cause,
    Offer,
    Progress,
    TaskFacts,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
    WorkerRecord,
)
from rota.core.spec import TaskSpec, encode_spec
from rota.simulator.history import History, more_workers, read_history

LARGE, SMALL = Offer((("cpu", 4000), ("memory", 8000))), Offer((("cpu", 1000), ("memory", 8000)))
WORKERS = [
    WorkerRecord(WorkerId(name), f"{name}/1", offer, False, 0.0, None)
    for name, offer in (("w1", LARGE), ("w2", LARGE), ("w3", SMALL))
]


def task(
    seq: int, *, came: float = 100.0, began: float | None = 101.0, ended: float | None = 104.0, **spec: Any
) -> Any:
    asked = TaskSpec(command=["true"], resources={"cpu": 1000}, **spec)
    facts = TaskFacts(TaskSeq(seq), None, None, asked.queue, 50, None, came, None, None, encode_spec(asked))
    state = TaskState.COMPLETED if ended is not None else TaskState.PENDING
    return TaskRecord(facts, Progress(state=state, worker=WorkerId("w1"), started_at=began, ended_at=ended))


def history(*tasks: TaskRecord, attempts: tuple[AttemptRecord, ...] = ()) -> History:
    return read_history(tasks, workers=WORKERS, settings=[], attempts=attempts)


def attempt(seq: int, began: float, ended: float, cause: Cause) -> AttemptRecord:
    return AttemptRecord(
        seq=TaskSeq(seq),
        number=1,
        worker=WorkerId("w2"),
        queued_at=began,
        started_at=began,
        ended_at=ended,
        cause=cause,
    )


def test_tasks_come_as_they_came_and_take_as_long_as_they_took() -> None:
    told = history(task(1, came=130.0, began=131.0, ended=136.5), task(2), task(3, began=None, ended=None))
    assert [(arrival.at, arrival.work.seconds) for arrival in told.arrivals] == [(0.0, 3.0), (30.0, 5.5)]
    assert told.left_out == 1
    assert told.report.makespan_s == 36.5
    assert (told.report.waiting_s.mean, told.report.waiting_s.max) == (1.0, 1.0)


def test_task_that_was_retried_waited_until_it_began_for_the_first_time() -> None:
    told = history(task(1, began=160.0, ended=170.0), attempts=(attempt(1, 102.0, 150.0, Cause.WORKER_LOST),))
    assert told.report.waiting_s.max == 2.0
    assert told.report.lost_work_s == {"worker-lost": 48.0}
    assert [arrival.work.seconds for arrival in told.arrivals] == [10.0]


def test_time_out_is_kept_for_backfill_unless_it_would_end_the_replay_early() -> None:
    told = history(task(1, timeout=60.0), task(2, timeout=3.0))
    assert [arrival.template.timeout for arrival in told.arrivals] == [60.0, None]


def test_failures_are_told_by_cause_with_what_was_said_of_the_first() -> None:
    failed = task(1)
    failed.progress.state, failed.progress.cause, failed.progress.message = TaskState.FAILED, Cause.OOM, "too large"
    [plight] = history(failed, task(2)).report.failures
    assert (plight.why, plight.tasks, plight.example) == ("oom", 1, "too large")


def test_workers_are_added_of_the_kind_that_there_are_most_of() -> None:
    plans = more_workers(history(task(1)).workers, 2)
    assert [(plan.name, plan.cpu) for plan in plans] == [
        ("w1", 4000), ("w2", 4000), ("w3", 1000), ("added-1", 4000), ("added-2", 4000)
    ]  # fmt: skip


def test_history_without_an_end_in_it_is_nothing_to_replay() -> None:
    with pytest.raises(BadRequest, match="no task of this history has run to its end"):
        history(task(1, began=None, ended=None))
