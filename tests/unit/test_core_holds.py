"""Holds: a task that needs much of a worker is not overtaken for ever, and nothing is kept for nobody."""

from __future__ import annotations

from collections import deque

import pytest

from rota.core.explain import explain_wait
from rota.core.holds import HOLD_AFTER_S, HOLDS_MAX, REVIEW_EVERY_S
from rota.core.model import TaskSeq, WorkerId
from tests.support.core import Core, assignments, only

LONG_S = HOLD_AFTER_S + REVIEW_EVERY_S


def busy(workers: int = 1, *, small: int = 4) -> tuple[Core, deque[TaskSeq], TaskSeq]:
    """Workers of 4 cpus full of small tasks, a few more of these, and a large one that is urgent."""
    core = Core()
    for number in range(1, workers + 1):
        core.hello(f"w{number}")
    running = deque(core.submit(4 * workers, priority="low"))
    core.submit(small, priority="low")
    large = only(core.submit(priority="critical", resources={"cpu": 4000}))
    return core, running, large


def flow(core: Core, running: deque[TaskSeq], *, ends: int, every_s: float = 0.5) -> list[TaskSeq]:
    """Let the oldest of the running tasks end, one after another, while as many others come; return what starts."""
    started: list[TaskSeq] = []
    for _ in range(ends):
        core.submit(priority="low")
        core.now += every_s
        given = [assignment.task for assignment in assignments(core.end(running.popleft()))]
        started += given
        running += given
        if not running:
            break
    return started


def test_large_task_is_placed_though_small_ones_of_lower_priority_keep_coming() -> None:
    core, running, large = busy()
    started = flow(core, running, ends=30)
    assert started.index(large) <= LONG_S / 0.5


def test_nothing_is_kept_for_a_task_that_has_just_come() -> None:
    core, running, large = busy()
    started = flow(core, running, ends=8, every_s=0.1)
    assert large not in started
    assert len(started) == 8


def test_only_one_worker_is_kept_for_a_task() -> None:
    core, running, _ = busy(3, small=20)
    core.pass_time(LONG_S)
    ended = [core.worker_of(seq) for seq in running]
    free = 0
    for seq in running:
        given = assignments(core.end(seq))
        free += not given
    assert sorted(set(ended)) == ["w1", "w2", "w3"]
    assert free == 3  # of four lanes of one worker; its last end placed the large task


def test_worker_is_used_by_all_again_once_the_task_is_placed() -> None:
    core, running, large = busy()
    core.pass_time(LONG_S)
    for seq in list(running):
        core.end(seq)
    assert core.states([large]) == ["assigned"]
    assert len(assignments(core.end(large))) == 4
    assert not core.state.holds


def test_task_that_fits_elsewhere_first_goes_there_and_frees_what_was_kept() -> None:
    core, running, large = busy()
    core.pass_time(LONG_S)
    assert assignments(core.end(running[0])) == []
    effects = core.hello("w2")
    assert core.worker_of(large) == "w2"
    assert len(assignments(effects)) == 2


@pytest.mark.parametrize("how", ["cancelled", "expired", "drained", "away", "replaced"])
def test_hold_ends_with_its_task_or_its_worker(how: str) -> None:
    core = Core()
    core.hello("w1")
    core.hello("w2", cpu=1000)
    running = core.submit(5, priority="low")
    waiting = core.submit(3, priority="low")
    large = only(core.submit(priority="critical", resources={"cpu": 4000}, deadline=60))
    core.pass_time(LONG_S)
    ended = next(seq for seq in running if core.worker_of(seq) == "w1")
    assert assignments(core.end(ended)) == []
    assert core.state.holds
    match how:
        case "cancelled":
            core.cancel(large)
        case "expired":
            core.pass_time(60.0)
        case "drained":
            core.set_drained("w1", drained=True)
        case "away":
            core.close("w1")
        case _:
            core.close("w1")
            core.hello("w1", instance="i2", cpu=1000)
    assert not core.state.holds
    if how in ("cancelled", "expired"):
        assert core.states(waiting[:1]) == ["assigned"]


def test_same_priority_is_not_kept_out() -> None:
    core = Core()
    core.hello()
    running = core.submit(4, priority="critical")
    core.submit(priority="low", resources={"cpu": 1})
    core.submit(priority="critical", resources={"cpu": 4000})
    core.pass_time(LONG_S)
    later = only(core.submit(priority="critical"))
    core.end(running[0])
    assert core.states([later]) == ["assigned"]


def test_higher_priority_than_that_of_the_hold_is_not_kept_out() -> None:
    core = Core()
    core.hello()
    running = core.submit(4, priority="low")
    core.submit(priority="high", resources={"cpu": 4000})
    core.pass_time(LONG_S)
    low = only(core.submit(priority="low"))
    core.end(running[0])
    urgent = only(core.submit(priority="critical"))
    assert core.states([low, urgent]) == ["pending", "assigned"]


def test_group_of_the_same_shape_finds_a_worker_that_was_kept_from_a_lower_one() -> None:
    core, running, _ = busy()
    core.pass_time(LONG_S)
    core.end(running[0])  # the small ones that wait look at the worker, and are kept out
    assert core.states(core.submit(priority="critical")) == ["assigned"]


def test_more_urgent_task_takes_a_hold_over_where_it_can_have_no_other() -> None:
    core, running, large = busy()
    core.pass_time(LONG_S)
    core.cancel(large)
    high = only(core.submit(priority="high", resources={"cpu": 3000}))
    core.pass_time(LONG_S)
    core.end(running.popleft())
    urgent = only(core.submit(priority="critical", resources={"cpu": 4000}))
    core.pass_time(LONG_S)
    for seq in running:
        core.end(seq)
    assert core.states([urgent, high]) == ["assigned", "pending"]  # though the other had room a task earlier


def test_no_more_workers_are_kept_than_the_limit() -> None:
    core = Core()
    for number in range(2 * HOLDS_MAX):
        core.hello(f"w{number}")
    running = core.submit(8 * HOLDS_MAX, priority="low")
    larges = [
        only(core.submit(priority="critical", resources={"cpu": 4000, "memory": 1 + index}))
        for index in range(2 * HOLDS_MAX)
    ]
    core.pass_time(LONG_S)
    core.submit(priority="low")
    assert len(list(core.state.holds.workers)) == HOLDS_MAX
    for _ in range(40):  # nothing is stuck: in the end all are placed, in their order
        core.pass_time(1.0)
        core.do()
        for seq in [seq for seq, task in core.state.tasks.items() if task.run is not None]:
            core.end(seq)
    assert core.states([*running, *larges]) == ["completed"] * (10 * HOLDS_MAX)
    assert not core.state.tasks


def test_worker_without_a_slot_left_is_not_kept() -> None:
    core, _, _ = busy()
    core.state.cluster.workers[WorkerId("w1")].quarantined = 100_000
    core.pass_time(LONG_S)
    core.submit()
    assert not core.state.holds


def test_task_that_is_kept_out_is_told_so() -> None:
    core, running, _ = busy()
    core.pass_time(LONG_S)
    core.end(running[0])
    small = only(core.submit(priority="low"))
    reason, text = explain_wait(core.state, core.task(small))
    assert (reason.value, text) == ("resources", "the room on w1 is kept for a task of higher priority")


def test_where_all_have_one_priority_nothing_is_kept() -> None:
    core = Core()
    core.hello()
    core.submit(8)
    core.submit(resources={"cpu": 4000})
    core.pass_time(LONG_S)
    core.submit()
    assert not core.state.holds
