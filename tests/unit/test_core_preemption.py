"""Preemption: who makes room for whom, what becomes of it, and that it never goes in circles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rota.core.commands import SlotsLostArrived
from rota.core.model import Cause, TaskSeq, WorkerId
from tests.support.core import QUIET, Core, assignments, only, recalled, stopped


def core_that_preempts(*, by: int = 10, **config: Any) -> Core:
    core = Core(config=replace(QUIET, **config))
    core.set_queue("urgent", preempts_by=by)
    return core


def test_the_youngest_of_lower_priority_makes_room() -> None:
    core = core_that_preempts()
    core.hello(cpu=2000)
    old = only(core.submit(priority=10))
    core.now += 1.0
    young = only(core.submit(priority=10))
    core.start(old, young)
    effects = core.submit_and_see(queue="urgent", priority=90)
    assert stopped(effects) == [core.key_of(young)]
    urgent = TaskSeq(3)
    assert core.states([old, young, urgent]) == ["running", "running", "pending"]
    effects = core.end(young, Cause.PREEMPTED)
    assert [given.task for given in assignments(effects)] == [urgent]
    assert core.states([young]) == ["pending"]
    assert (core.progress(young).retries_used, core.progress(young).losses_used) == (0, 0)
    assert core.record.attempts[young][-1].cause is Cause.PREEMPTED
    assert [given.task for given in assignments(core.end(urgent))] == [young]


def test_the_fewest_victims_are_chosen() -> None:
    core = core_that_preempts()
    core.hello("many", cpu=4000)
    small = core.submit(4, priority=10)
    core.hello("one", cpu=4000)
    large = only(core.submit(priority=10, resources={"cpu": 4000}))
    effects = core.submit_and_see(queue="urgent", priority=90, resources={"cpu": 3000})
    assert stopped(effects) == [core.key_of(large)]
    assert core.states(small) == ["assigned"] * 4


def test_no_more_victims_than_needed() -> None:
    core = core_that_preempts()
    core.hello(cpu=4000)
    core.submit(priority=10, resources={"cpu": 2000})
    core.now += 1.0
    core.submit(2, priority=10, resources={"cpu": 1000})
    effects = core.submit_and_see(queue="urgent", priority=90, resources={"cpu": 2000})
    assert len(stopped(effects)) == 1  # the older one of 2,000 alone, instead of the two younger ones


def test_the_gap_and_the_queue_decide_who_may_preempt() -> None:
    core = core_that_preempts(by=30)
    core.hello(cpu=1000)
    core.submit(priority=50)
    assert not stopped(core.submit_and_see(queue="urgent", priority=79))
    assert not stopped(core.submit_and_see(priority=100))
    assert stopped(core.submit_and_see(queue="urgent", priority=80))


def test_equal_priority_is_never_preempted_whatever_the_gap() -> None:
    core = core_that_preempts(by=0)
    core.hello(cpu=1000)
    core.submit(priority=50)
    assert not stopped(core.submit_and_see(queue="urgent", priority=50))


def test_nobody_is_told_twice() -> None:
    core = core_that_preempts()
    core.hello(cpu=2000)
    core.submit(2, priority=10)
    assert len(stopped(core.submit_and_see(queue="urgent", priority=90, resources={"cpu": 2000}))) == 2
    assert not stopped(core.submit_and_see(queue="urgent", priority=90, resources={"cpu": 2000}))
    assert not stopped(core.pass_time(5.0))


def test_what_stands_in_a_line_is_asked_back() -> None:
    core = core_that_preempts()
    core.hello(cpu=1000)
    core.end(only(core.submit(priority=10)), run_s=0.001)
    head, *line = core.submit(3, priority=10)
    assert core.states(line) == ["assigned", "assigned"]
    effects = core.submit_and_see(queue="urgent", priority=90)
    assert stopped(effects) == [core.key_of(head)]
    assert recalled(effects) == [core.key_of(seq) for seq in line]


def test_the_room_is_kept_for_who_preempted() -> None:
    core = core_that_preempts()
    core.hello(cpu=2000)
    victims = core.submit(2, priority=10)
    urgent = only(core.submit(queue="urgent", priority=90, resources={"cpu": 2000}))
    core.submit(priority=10)
    assert not assignments(core.end(victims[0], Cause.PREEMPTED))
    assert [given.task for given in assignments(core.end(victims[1], Cause.PREEMPTED))] == [urgent]


def test_a_victim_that_succeeds_meanwhile_has_succeeded() -> None:
    core = core_that_preempts()
    core.hello(cpu=1000)
    victim = only(core.submit(priority=10))
    urgent = only(core.submit(queue="urgent", priority=90))
    core.end(victim)
    assert core.states([victim, urgent]) == ["completed", "assigned"]


def test_cards_make_room_as_well() -> None:
    core = core_that_preempts()
    core.hello(gpus=[8000, 8000], cpu=8000)
    core.submit(3, priority=10)
    core.now += 1.0
    with_cards = core.submit(2, priority=10, resources={"gpu": 1})
    effects = core.submit_and_see(queue="urgent", priority=90, resources={"gpu": 1})
    assert len(stopped(effects)) == 1
    assert stopped(effects)[0][0] in with_cards


def test_a_worker_that_comes_back_is_told_again() -> None:
    core = core_that_preempts()
    core.hello(cpu=1000)
    victim = only(core.submit(priority=10))
    core.start(victim)
    core.submit(queue="urgent", priority=90)
    core.close()
    assert stopped(core.hello(cpu=1000, holds=[core.held(victim, started=True)])) == [core.key_of(victim)]


@given(
    tasks=st.lists(st.tuples(st.integers(0, 100), st.sampled_from(["urgent", "default"])), min_size=1, max_size=12),
    by=st.integers(0, 40),
    ageing=st.sampled_from([0.0, 1000.0]),
)
def test_preemption_never_goes_in_circles(tasks: list[tuple[int, str]], by: int, ageing: float) -> None:
    core = core_that_preempts(by=by, ageing=ageing)
    core.hello(cpu=2000)
    for priority, queue in tasks:
        core.submit(priority=priority, queue=queue)
        core.pass_time(30.0)
    preempted: dict[TaskSeq, int] = {}
    for _ in range(20 * len(tasks)):
        going = [task for task in core.state.tasks.values() if task.run is not None and task.run.is_preempted]
        if going:
            victim = going[0].seq
            preempted[victim] = preempted.get(victim, 0) + 1
            core.end(victim, Cause.PREEMPTED)
        else:
            running = [task for task in core.state.tasks.values() if task.run is not None]
            if not running:
                break
            core.end(min(running, key=lambda task: task.seq).seq)
    assert not core.state.tasks  # all have ended: nobody was put off for ever
    assert all(count <= len(tasks) for count in preempted.values())


def test_task_makes_room_where_the_worker_may_run_no_more_at_once() -> None:
    core = core_that_preempts()
    core.hello(cpu=4000, max_tasks=1)
    victim = only(core.submit(priority=10))
    assert stopped(core.submit_and_see(queue="urgent", priority=90)) == [core.key_of(victim)]


def test_nobody_is_preempted_for_a_slot_that_would_not_be_there() -> None:
    core = core_that_preempts()
    core.hello(cpu=1000, max_tasks=1)
    core.submit(priority=10)
    core.do(SlotsLostArrived(core.sessions["w1"], 1, "could not be emptied"))
    assert not stopped(core.submit_and_see(queue="urgent", priority=90))


def test_nobody_is_preempted_for_room_that_is_reserved_for_others() -> None:
    core = core_that_preempts()
    core.hello(cpu=1000)
    core.reserve("demo", resources={"cpu": 1000}, queue="batch")
    core.submit(queue="batch", priority=10)
    assert not stopped(core.submit_and_see(queue="urgent", priority=90))


def test_those_for_whom_it_is_reserved_may_preempt_there() -> None:
    core = core_that_preempts()
    core.hello(cpu=1000)
    other = only(core.submit(priority=10))
    core.reserve("demo", resources={"cpu": 1000}, queue="urgent")
    assert stopped(core.submit_and_see(queue="urgent", priority=90)) == [core.key_of(other)]


def test_what_is_left_of_a_gang_is_not_preempted_because_that_would_be_its_end() -> None:
    core = core_that_preempts()
    core.hello(cpu=2000)
    done, rest = core.submit(2, priority=10, gang={"id": "g", "size": 2})
    core.end(done)
    assert not stopped(core.submit_and_see(queue="urgent", priority=90, resources={"cpu": 2000}))
    assert core.states([rest]) == ["assigned"]


def test_gang_that_is_being_stopped_already_is_room_on_its_way() -> None:
    core = core_that_preempts()
    core.hello(cpu=2000)
    seqs = core.submit(2, priority=10, gang={"id": "g", "size": 2}, retries=1)
    core.start(*seqs)
    core.end(seqs[0], "exit", exit_code=1)
    core.submit(priority=95)  # takes the room of the one that has ended
    effects = core.submit_and_see(queue="urgent", priority=90)
    assert not stopped(effects)
    assert [given.task for given in assignments(core.end(seqs[1], Cause.GANG))] == [TaskSeq(4)]


def test_nothing_joins_the_line_of_a_victim_whose_worker_was_away() -> None:
    core = core_that_preempts(ordering="fcfs")
    core.hello(cpu=1000)
    core.end(only(core.submit(priority=10)), run_s=0.001)
    head, *behind = core.submit(300, priority=10)
    urgent = only(core.submit(queue="urgent", priority=90))
    line = [task.seq for task in only(core.state.cluster.workers[WorkerId("w1")].lanes.values()).line]
    core.close()
    core.hello(cpu=1000, holds=[core.held(seq, started=seq == head) for seq in line])
    for seq in line[1:]:
        core.end(seq, Cause.RETURNED)
    core.end(head, Cause.PREEMPTED)
    assert core.states([urgent, *behind]) == ["assigned", *["pending"] * len(behind)]
