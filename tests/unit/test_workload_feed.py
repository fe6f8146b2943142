"""A load for a real cluster: handed out by the clock, cut to its machines, and summed up."""

from __future__ import annotations

import random

import pytest

from rota.cli.generated import summary_of
from rota.cli.views import ShownTask
from rota.core.model import SyntheticWork
from rota.workloads import WorkloadTask, make_arrivals, make_durations, make_mix
from rota.workloads.feed import TaskFeed, fitted, largest_of


def feed(*, rate: float = 10.0, duration_s: float = 1.0) -> TaskFeed:
    mix = make_mix("cpu", durations=make_durations("fixed", mean_s=1.0))
    return TaskFeed(make_arrivals("steady", rate=rate, duration_s=duration_s), mix, random.Random(1))


def test_only_what_is_due_is_handed_out_and_each_task_once() -> None:
    some = feed()
    assert some.next_s == pytest.approx(0.05)
    assert some.take_due(0.0, most=100) == []
    assert len(some.take_due(0.5, most=100)) == 5
    assert len(some.take_due(0.5, most=100)) == 0
    assert len(some.take_due(9.0, most=3)) == 3
    assert len(some.take_due(9.0, most=100)) == 2
    assert some.next_s is None


def test_a_task_that_fits_is_left_as_it_is() -> None:
    task = WorkloadTask("io-1", {"cpu": 100, "memory": 64}, SyntheticWork("io", 1.0, 8))
    assert fitted(task, {"cpu": 1000, "memory": 64}) is task


def test_a_task_that_is_too_large_is_cut_with_what_it_holds() -> None:
    task = WorkloadTask("memory-3", {"cpu": 1000, "memory": 4352}, SyntheticWork("memory", 1.0, 4096))
    cut = fitted(task, {"cpu": 500, "memory": 1000, "disk": 7})
    assert cut.resources == {"cpu": 500, "memory": 1000}
    assert cut.work == SyntheticWork("memory", 1.0, 968)


def test_what_a_worker_does_not_count_is_not_asked_for() -> None:
    task = WorkloadTask("cpu-1", {"cpu": 1000, "memory": 128}, SyntheticWork("cpu", 1.0, 0))
    assert fitted(task, {"cpu": 4000}).resources == {"cpu": 1000}


def test_of_no_workers_none_is_the_largest() -> None:
    assert largest_of([]) is None


def ended(number: int, waited_s: int, state: str = "completed") -> ShownTask:
    return ShownTask(
        id=f"w-1-{number}",
        state=state,
        created_at="2030-01-01T00:00:00Z",
        started_at=f"2030-01-01T00:00:{waited_s:02}Z",
    )


def test_a_summary_counts_ends_and_what_is_left() -> None:
    tasks = [ended(1, 2), ended(2, 4), ended(3, 0, "failed"), ShownTask(id="w-1-4", state="pending")]
    summary = summary_of(tasks, "w-1", 7, submit_seconds=2.0)
    assert (summary.submitted, summary.completed, summary.failed, summary.left) == (4, 2, 1, 1)
    assert (summary.waited_p50, summary.waited_p95, summary.waited_max) == (2.0, 3.8, 4.0)


def test_a_summary_of_nothing_has_no_waits() -> None:
    summary = summary_of([], "w-1", 7, submit_seconds=0.0)
    assert (summary.submitted, summary.waited_p50, summary.waited_max) == (0, None, None)
