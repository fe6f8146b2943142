"""Holds: a task that needs much of a worker is not overtaken for ever, and nothing is kept for nobody."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from rota.core.commands import ReplyTo, SubmitTasks
from rota.core.explain import explain_wait
from rota.core.holds import HOLD_AFTER_S, HOLDS_MAX, REVIEW_EVERY_S
from rota.core.model import TaskSeq, WorkerId
from tests.support.core import QUIET, Core, assignments, drafts_of, only

LONG_S = HOLD_AFTER_S + REVIEW_EVERY_S


def busy(workers: int = 1, *, small: int = 4, ordering: str = QUIET.ordering) -> tuple[Core, deque[TaskSeq], TaskSeq]:
    """Workers of 4 cpus full of small tasks, a few more of these, and a large one that is urgent."""
    core = Core(config=replace(QUIET, ordering=ordering))
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


@pytest.mark.parametrize("ordering", ["priority", "fair"])  # what a queue has, and so its fair rank, falls meanwhile
def test_large_task_is_placed_though_small_ones_of_lower_priority_keep_coming(ordering: str) -> None:
    core, running, large = busy(ordering=ordering)
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


def test_a_hold_whose_task_is_placed_elsewhere_keeps_nobody_out_for_a_later_one_of_its_kind() -> None:
    core = Core(config=replace(QUIET, ordering="fcfs"))
    core.hello("w1")
    core.hello("w2")
    running = core.submit(8)
    core.submit(1, delay=3600)  # so that something needs less
    holder = only(core.submit(resources={"cpu": 2000}))
    core.pass_time(LONG_S)
    second = only(core.submit(resources={"cpu": 2000}, priority="low"))
    (kept,) = (worker.id for worker in core.state.holds.workers)
    there = [seq for seq in running if core.worker_of(seq) == kept]
    elsewhere = [seq for seq in running if core.worker_of(seq) != kept]
    third = SubmitTasks(drafts_of(1, core.wall, resources={"cpu": 2000}), ReplyTo(10**6))
    # The other worker is loaded less: the holder goes there, and the one that was kept has room, too.
    core.end_together(*there[:2], *elsewhere[:3], then=[third])
    assert (core.worker_of(holder), core.worker_of(second)) == (core.worker_of(elsewhere[3]), kept)


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


def test_later_tasks_of_the_same_priority_are_kept_out_and_earlier_ones_are_not() -> None:
    core = Core()
    core.hello()
    running = core.submit(4)
    earlier = only(core.submit())
    large = only(core.submit(resources={"cpu": 4000}))
    core.pass_time(LONG_S)
    later = only(core.submit())
    core.end(running[0])
    core.end(running[1])
    assert core.states([earlier, later]) == ["assigned", "pending"]
    for seq in (*running[2:], earlier):
        core.end(seq)
    assert core.states([large, later]) == ["assigned", "pending"]


def kept_for_large(*, timeout: float | None = None, run_s: float = 10.0) -> tuple[Core, list[TaskSeq], TaskSeq]:
    """A worker of 4 cpus with four tasks that are known to take 10 s, and one that waits for 3 of them to end."""
    core = Core()
    core.hello()
    core.end(only(core.submit()), run_s=run_s)
    running = core.submit(4, timeout=timeout)
    large = only(core.submit(resources={"cpu": 3000}))
    core.pass_time(LONG_S)
    core.do()
    assert core.state.holds
    return core, running, large


def test_a_small_task_goes_first_if_it_is_over_before_the_large_one_could_start() -> None:
    core, running, _ = kept_for_large()
    core.end(running[0], run_s=10.0)
    quick, slow = only(core.submit(timeout=2)), only(core.submit(timeout=600))
    assert core.states([quick, slow]) == ["assigned", "pending"]


def test_a_small_task_goes_first_if_there_is_room_beside_the_large_one() -> None:
    core = Core()
    core.hello(cpu=8000)
    core.end(only(core.submit()), run_s=10.0)
    running = core.submit(8)
    core.submit(resources={"cpu": 6000})
    core.pass_time(LONG_S)
    core.end(running[0], run_s=10.0)
    core.end(running[1], run_s=10.0)
    beside = core.submit(3)
    # By the time the large one starts all others are thought to be over: it leaves two cores.
    assert core.states(beside) == ["assigned", "assigned", "pending"]


def test_nobody_goes_first_whose_run_time_is_not_known() -> None:
    core = Core()
    core.hello()
    running = core.submit(4)
    core.submit(resources={"cpu": 4000})
    core.pass_time(LONG_S)
    core.end(running[0])
    unknown = only(core.submit(resources={"cpu": 500}, name="never seen"))
    assert core.states([unknown]) == ["pending"]


def test_backfilling_does_not_delay_the_large_task() -> None:
    core, running, large = kept_for_large()
    for seq in running[:3]:
        core.submit(timeout=1)
        core.now += 1.0
        for quick in [task for task in core.state.tasks.values() if task.run is not None and task.seq not in running]:
            core.end(quick.seq, run_s=0.5)
        core.end(seq, run_s=10.0)
    for quick in [task for task in core.state.tasks.values() if task.run is not None and task.seq not in running]:
        if quick.seq != large:
            core.end(quick.seq, run_s=0.5)
    assert core.states([large]) == ["assigned"]


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
    core = Core()
    core.hello()
    running = core.submit(4, priority="low")
    core.submit(4, priority="low")
    core.submit(priority="high", resources={"cpu": 4000})
    core.pass_time(LONG_S)
    core.end(running[0])  # the small ones that wait look at the worker, and are kept out
    assert core.states(core.submit(priority="critical")) == ["assigned"]


def test_more_urgent_task_takes_a_hold_over_where_it_can_have_no_other() -> None:
    core, running, large = busy()
    core.pass_time(LONG_S)
    core.cancel(large)
    high = only(core.submit(priority="high", resources={"cpu": 3001}))
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
    assert (reason.value, text) == ("resources", "the room on w1 is kept for a task that goes first")


def test_nothing_is_kept_for_tasks_that_no_smaller_one_could_overtake() -> None:
    core = Core()
    core.hello()
    core.submit(8)
    core.submit(resources={"cpu": 1000})
    core.pass_time(LONG_S)
    core.submit()
    assert not core.state.holds


def test_cards_are_not_taken_one_by_one_from_a_task_that_needs_several() -> None:
    core = Core()
    core.hello(gpus=[8000, 8000], cpu=64_000)
    running = deque(core.submit(2, resources={"gpu": 1}))
    large = only(core.submit(resources={"gpu": 2}))
    core.submit(20, resources={"gpu": 1})
    core.pass_time(LONG_S)
    core.do()
    while running:
        core.pass_time(1.0)
        running += [given.task for given in assignments(core.end(running.popleft()))]
        if large in running:
            break
    assert core.states([large]) == ["assigned"]
    assert len(core.state.tasks) == 21  # nobody went first


def test_card_that_the_large_task_does_not_need_is_given_to_others() -> None:
    core = Core()
    core.hello(gpus=[8000] * 3, cpu=64_000)
    running = core.submit(3, resources={"gpu": 1})
    large = only(core.submit(resources={"gpu": 2}))
    small = core.submit(3, resources={"gpu": 1})
    core.pass_time(LONG_S)
    core.do()
    core.end(running[0])
    core.end(running[1])
    assert core.states([large, *small]) == ["assigned", "pending", "pending", "pending"]
    core.end(running[2])
    assert core.states(small) == ["assigned", "pending", "pending"]


def test_room_that_is_reserved_is_not_reckoned_with() -> None:
    core = Core()
    core.hello()
    core.reserve("demo", resources={"cpu": 2000}, queue="urgent")
    running = core.submit(2)
    large = only(core.submit(resources={"cpu": 2000}))
    small = core.submit(2)
    core.pass_time(LONG_S)
    core.do()
    core.end(running[0])
    assert core.states([large, *small]) == ["pending"] * 3  # beside it and what is reserved there is no room for more
    core.end(running[1])
    assert core.states([large, *small]) == ["assigned", "pending", "pending"]
