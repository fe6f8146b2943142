"""Exclusive tasks in the core: how long the next attempt waits, and what ends that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rota.core.config import SchedulerConfig
from rota.core.explain import explain_wait
from rota.core.model import Reason, TaskSeq
from rota.core.protocol import Assign
from tests.support.core import Core, assignments, messages, only

CONFIG = SchedulerConfig(grace_s=0.0, blackout_s=0.0)


def lost_after_20_s(core: Core, seq: TaskSeq) -> None:
    """Let the worker that has a task fall silent, while another lives."""
    core.start(seq)
    silent = core.worker_of(seq)
    other = "w2" if silent == "w1" else "w1"
    for _ in range(11):
        core.beat(other)
        core.pass_time(2.0)
    core.beat(other)
    assert core.states([seq]) == ["pending"]


def begin() -> tuple[Core, TaskSeq]:
    """Two workers, one of which has an exclusive task."""
    core = Core(config=CONFIG)
    core.hello("w1")
    core.hello("w2")
    return core, only(core.submit(exclusive=True, losses=3))


def keep_alive(core: Core, worker: str, seconds: float) -> list[TaskSeq]:
    """Let time go by while a worker lives; return what was assigned."""
    given: list[TaskSeq] = []
    while seconds > 0:
        step = min(2.0, seconds)
        seconds -= step
        given += [one.task for one in assignments(core.pass_time(step))]
        given += [one.task for one in assignments(core.beat(worker))]
    return given


def test_lost_exclusive_task_waits_until_its_worker_has_stopped_it_for_sure() -> None:
    core, seq = begin()
    other = "w2" if core.worker_of(seq) == "w1" else "w1"
    lost_after_20_s(core, seq)

    reason, sentence = explain_wait(core.state, core.task(seq))
    assert (reason, sentence) == (
        Reason.EXCLUSIVE,
        "its last worker may run it until 2027-01-15 08:00:45 UTC",
    )
    assert keep_alive(core, other, 22.9) == []
    assert keep_alive(core, other, 0.2) == [seq]
    assert core.progress(seq).losses_used == 1


def test_other_tasks_of_a_lost_worker_run_elsewhere_at_once() -> None:
    core = Core(config=CONFIG)
    core.hello("w1")
    seq = only(core.submit())
    core.hello("w2")
    lost_after_20_s_of = core.worker_of(seq)
    core.start(seq)
    for _ in range(11):
        core.beat("w2" if lost_after_20_s_of == "w1" else "w1")
        core.pass_time(2.0)
    assert core.worker_of(seq) != lost_after_20_s_of


def test_exclusive_task_whose_worker_was_started_anew_waits_too() -> None:
    core = Core()
    core.hello("w1", instance="old")
    seq = only(core.submit(exclusive=True))
    core.pass_time(7.0)
    core.close("w1")
    assert assignments(core.hello("w1", instance="new")) == []
    assert assignments(core.pass_time(37.9)) == []
    assert [given.task for given in assignments(core.pass_time(0.2))] == [seq]


def test_end_that_a_worker_reported_is_waited_for_by_nobody() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(exclusive=True, retries=1, backoff=0))
    assert [given.task for given in assignments(core.end(seq, "exit"))] == [seq]


def test_start_of_a_coordinator_is_the_least_that_is_waited_from() -> None:
    core, seq = begin()
    lost_after_20_s(core, seq)
    core = core.restarted(after_s=10.0)
    core.hello("w3")
    assert keep_alive(core, "w3", 44.9) == []
    assert keep_alive(core, "w3", 0.2) == [seq]


def test_never_started_exclusive_task_does_not_wait_for_a_start() -> None:
    core = Core()
    seq = only(core.submit(exclusive=True))
    core = core.restarted()
    assert [given.task for given in assignments(core.hello())] == [seq]


def test_retry_of_a_lost_exclusive_task_waits_as_well() -> None:
    core, seq = begin()
    other = "w2" if core.worker_of(seq) == "w1" else "w1"
    core.cancel(seq)
    for _ in range(11):
        core.beat(other)
        core.pass_time(2.0)
    core.beat(other)
    assert core.states([seq]) == ["cancelled"]
    assert assignments(core.retry(seq)) == []
    assert keep_alive(core, other, 22.9) == []
    assert keep_alive(core, other, 0.2) == [seq]


def test_exclusive_attempts_never_stand_in_line() -> None:
    core = Core()
    core.hello(cpu=1000)
    for _ in range(3):  # its kind is known to be quick
        core.end(only(core.submit(exclusive=True)), run_s=0.001)
    core.submit(5, exclusive=True)
    assert sorted(core.states(sorted(core.state.tasks))) == ["assigned", *["pending"] * 4]


def test_worker_is_told_which_attempts_are_leased() -> None:
    core = Core()
    core.hello()
    effects = core.submit_drafts_of([{"exclusive": True}, {}])
    message = only(messages(effects, Assign))
    assert len(message.attempts) == 2
    assert message.leased == [(1, 1)]


def test_wait_that_is_not_longer_than_the_lease_and_its_grace_is_refused() -> None:
    with pytest.raises(ValueError, match="exclusive_wait_s must be more than lease_s"):
        replace(CONFIG, exclusive_wait_s=35.0)
