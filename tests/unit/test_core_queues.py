"""Queues, limits and orderings: who goes first, and what keeps a task back that no worker keeps back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from rota.core.cluster import ROOMS_MAX
from rota.core.effects import SettingDone
from rota.core.explain import explain_wait, reasons
from rota.core.model import Reason, TaskSeq
from rota.core.ordering import ARRIVALS_MAX, Arrivals
from rota.core.why import why_it_waits
from tests.support.core import QUIET, Core, assignments, only


def core_with(**config: Any) -> Core:
    return Core(config=replace(QUIET, **config))


def order_of(core: Core, *, cpu: int = 1000) -> list[TaskSeq]:
    """The order in which one worker with one lane runs all that waits."""
    order = [given.task for given in assignments(core.hello("runner", cpu=cpu))]
    while running := [seq for seq in order if seq in core.state.tasks and core.task(seq).run is not None]:
        order += [given.task for seq in running for given in assignments(core.end(seq))]
    return order


def why(core: Core, seq: TaskSeq) -> tuple[str, str]:
    reason, text = explain_wait(core.state, core.task(seq))
    assert reasons(core.state)[reason] >= 1
    return reason.value, text


def running_by_queue(core: Core) -> Counter[str]:
    return Counter(task.terms.queue for task in core.state.tasks.values() if task.run is not None)


# Order


def test_fcfs_takes_tasks_as_they_came_whatever_their_priority() -> None:
    core = core_with(ordering="fcfs")
    seqs = [only(core.submit(priority=priority, resources={"cpu": 900 + priority})) for priority in (10, 90, 50)]
    assert order_of(core) == seqs


def test_with_ageing_a_task_that_has_waited_goes_before_a_higher_priority_that_has_not() -> None:
    core = core_with(ageing=10.0)
    low = only(core.submit(priority=40))
    core.pass_time(120.0)
    high, higher = only(core.submit(priority=55)), only(core.submit(priority=70))
    assert order_of(core) == [higher, low, high]


def test_without_ageing_priority_is_all() -> None:
    core = core_with()
    low = only(core.submit(priority=40))
    core.pass_time(1e6)
    high = only(core.submit(priority=41))
    assert order_of(core) == [high, low]


def test_age_is_known_again_after_a_restart() -> None:
    core = core_with(ageing=10.0)
    low = only(core.submit(priority=40))
    core.pass_time(120.0)
    high = only(core.submit(priority=55))
    assert order_of(core.restarted(after_s=1.0)) == [low, high]


def test_arrivals_are_bounded_and_stay_in_order() -> None:
    arrivals = Arrivals()
    for number in range(3 * ARRIVALS_MAX):
        arrivals.note(TaskSeq(number), 2.0 * number)
    times = [arrivals.at(TaskSeq(number)) for number in range(0, 3 * ARRIVALS_MAX, 997)]
    assert times == sorted(times)
    assert all(time <= 2.0 * number for time, number in zip(times, range(0, 3 * ARRIVALS_MAX, 997), strict=True))
    assert arrivals.at(TaskSeq(3 * ARRIVALS_MAX - 1)) == 2.0 * (3 * ARRIVALS_MAX - 1)


# Fair shares


def fair_core(**weights: float) -> Core:
    core = core_with(ordering="fair")
    for name, weight in weights.items():
        core.set_queue(name, weight=weight)
    return core


def churn(core: Core, steps: int) -> Counter[str]:
    """End the oldest attempt again and again; count who had how many lanes in the last half."""
    had = Counter[str]()
    for step in range(steps):
        running = sorted(seq for seq, task in core.state.tasks.items() if task.run is not None)
        core.end(running[0])
        if step >= steps // 2:
            had += running_by_queue(core)
    return had


def test_fair_shares_converge_to_the_weights() -> None:
    core = fair_core(a=1.0, b=3.0)
    core.submit(200, queue="a")
    core.submit(200, queue="b")
    core.hello(cpu=8000)
    had = churn(core, 100)
    assert had["b"] / had["a"] == pytest.approx(3.0, rel=0.1)


def test_a_queue_that_comes_late_gets_its_share() -> None:
    core = fair_core()
    core.hello(cpu=8000)
    core.submit(100, queue="first")
    core.submit(100, queue="second")
    had = churn(core, 60)
    assert had["second"] / had["first"] == pytest.approx(1.0, rel=0.15)


def test_the_dominant_resource_counts() -> None:
    core = fair_core()
    core.hello(cpu=9_000, memory=18_000)
    core.submit(50, queue="memory", resources={"cpu": 1000, "memory": 4000})
    core.submit(50, queue="cpu", resources={"cpu": 3000, "memory": 1000})
    core.end(TaskSeq(1))
    for _ in range(30):
        running = sorted(seq for seq, task in core.state.tasks.items() if task.run is not None)
        core.end(running[0])
    # The example of the paper: three of the one and two of the other, both with two thirds of what they need most.
    assert running_by_queue(core) == {"memory": 3, "cpu": 2}


def test_within_a_queue_priority_decides_unless_it_is_first_come_first_served() -> None:
    core = fair_core()
    core.set_queue("fcfs", ordering="fcfs")
    orders = {}
    for queue in ("other", "fcfs"):
        orders[queue] = [only(core.submit(queue=queue, priority=priority)) for priority in (10, 90)]
    order = order_of(core)
    assert [seq for seq in order if seq in orders["other"]] == orders["other"][::-1]
    assert [seq for seq in order if seq in orders["fcfs"]] == orders["fcfs"]


# Queues


def test_a_paused_queue_starts_nothing_and_others_go_on() -> None:
    core = Core()
    core.hello(cpu=4000)
    core.set_queue("batch", paused=True)
    paused = only(core.submit(queue="batch"))
    assert core.states([paused, *core.submit(2)]) == ["pending", "assigned", "assigned"]
    assert why(core, paused) == ("paused", "the queue batch is paused")
    effects = core.set_queue("batch", weight=1.0)
    assert [given.task for given in assignments(effects)] == [paused]


def test_a_queue_runs_at_most_so_many_at_once() -> None:
    core = Core()
    core.hello(cpu=8000)
    core.set_queue("batch", max_running=2)
    seqs = core.submit(4, queue="batch")
    assert core.states(seqs) == ["assigned", "assigned", "pending", "pending"]
    assert why(core, seqs[2]) == ("quota", "the queue batch runs 2 of at most 2")
    assert [given.task for given in assignments(core.end(seqs[0]))] == [seqs[2]]


def test_a_queue_uses_at_most_so_much() -> None:
    core = Core()
    core.hello(cpu=8000, memory=8000)
    core.set_queue("batch", max_resources={"memory": 5000})
    seqs = core.submit(3, queue="batch", resources={"memory": 2000})
    assert core.states(seqs) == ["assigned", "assigned", "pending"]
    assert why(core, seqs[2]) == ("quota", "the queue batch uses 4,000 MiB of at most 5,000 MiB memory")
    small = only(core.submit(queue="batch", resources={"memory": 1000}))
    assert core.states([small]) == ["assigned"]


def test_quick_tasks_of_a_capped_queue_never_stand_in_line() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.set_queue("batch", max_running=5)
    first = only(core.submit(queue="batch"))
    core.end(first, run_s=0.001)
    seqs = core.submit(4, queue="batch")
    assert core.states(seqs) == ["assigned", "pending", "pending", "pending"]


def test_a_lowered_cap_ends_nothing_and_starts_nothing() -> None:
    core = Core()
    core.hello(cpu=8000)
    seqs = core.submit(3, queue="batch")
    core.set_queue("batch", max_running=1)
    waiting = only(core.submit(queue="batch"))
    for seq in seqs[:2]:
        assert not assignments(core.end(seq))
    assert [given.task for given in assignments(core.end(seqs[2]))] == [waiting]


def test_settings_survive_a_restart_and_use_is_known_again() -> None:
    core = Core()
    core.hello(cpu=8000)
    core.set_queue("batch", max_running=2, weight=4.0)
    core.set_limit("licence", 1)
    seqs = core.submit(3, queue="batch")
    held = only(core.submit(limits={"licence": 1}))
    again = core.restarted()
    assert again.state.queues.get("batch").settings.weight == 4.0
    assert (again.state.queues.get("batch").running, again.state.limits.all()[0].used) == (2, 1)
    again.hello(holds=[again.held(seq) for seq in (*seqs[:2], held)], cpu=8000)
    assert why(again, seqs[2])[0] == "quota"
    waiting = only(again.submit(limits={"licence": 1}))
    assert [given.task for given in assignments(again.end(held))] == [waiting]


def test_what_was_set_of_a_queue_can_be_forgotten() -> None:
    core = Core()
    core.set_queue("batch", max_running=0)
    assert core.answer(core.set_queue("batch", max_running=1)) == SettingDone(True)
    assert core.answer(core.set_queue("batch")) == SettingDone(True)
    assert core.answer(core.set_queue("batch")) == SettingDone(False)
    assert not core.record.settings
    core.hello(cpu=8000)
    assert core.states(core.submit(3, queue="batch")) == ["assigned"] * 3


def test_a_queue_may_have_a_placement_of_its_own() -> None:
    core = core_with(placement="first-fit")
    for name in ("w1", "w2"):
        core.hello(name, cpu=16_000)
    core.submit(queue="web")
    core.set_queue("web", placement="round-robin")
    assert core.workers_of(core.submit(4, queue="web")) in (["w1", "w2"] * 2, ["w2", "w1"] * 2)
    assert core.workers_of(core.submit(2)) == ["w1", "w1"]


def test_queues_that_nothing_names_any_more_are_forgotten() -> None:
    core = Core()
    core.hello()
    core.set_queue("kept", weight=2.0)
    for number in range(3 * ROOMS_MAX):
        core.end(only(core.submit(queue=f"once-{number}")))
    assert len(core.state.queues.all()) <= ROOMS_MAX + 3
    assert {"kept", "default"} <= {queue.name for queue in core.state.queues.all()}


# Limits


def test_a_limit_holds_across_queues_and_shapes() -> None:
    core = Core()
    core.hello(cpu=8000)
    core.set_limit("licence", 2)
    seqs = [
        only(core.submit(queue=queue, resources={"cpu": cpu}, limits={"licence": 1}))
        for queue, cpu in (("a", 100), ("b", 200), ("c", 300))
    ]
    assert core.states(seqs) == ["assigned", "assigned", "pending"]
    assert why(core, seqs[2]) == ("limit", "waits for the limit licence: 2 of 2 are in use")
    assert why_it_waits(core.state, core.task(seqs[2])).reason is Reason.LIMIT
    assert [given.task for given in assignments(core.end(seqs[0], "exit"))] == [seqs[2]]


def test_several_of_a_limit_are_held_together_or_not_at_all() -> None:
    core = Core()
    core.hello(cpu=8000)
    core.set_limit("slots", 3)
    first, second = (only(core.submit(limits={"slots": 2})) for _ in range(2))
    small = only(core.submit(limits={"slots": 1}))
    assert core.states([first, second, small]) == ["assigned", "pending", "assigned"]
    assert why(core, second) == ("limit", "waits for 2 of the limit slots: 3 of 3 are in use")


def test_a_lost_worker_leaks_nothing() -> None:
    core = Core(config=replace(QUIET, heartbeat_s=1.0, suspicious_after_s=3.0, offline_after_s=6.0))
    core.hello("w1")
    core.set_limit("licence", 1)
    held, waiting = core.submit(2, limits={"licence": 1})
    core.start(held)
    core.pass_time(10.0)
    core.hello("w2")
    assert core.state.limits.all()[0].used == 1
    assert core.worker_of(held) == "w2"
    assert core.states([waiting]) == ["pending"]


def test_a_raised_limit_lets_more_start_and_a_lowered_one_ends_nothing() -> None:
    core = Core()
    core.hello(cpu=8000)
    core.set_limit("licence", 1)
    seqs = core.submit(4, limits={"licence": 1})
    assert [given.task for given in assignments(core.set_limit("licence", 3))] == seqs[1:3]
    assert not assignments(core.set_limit("licence", 1))
    assert not assignments(core.end(seqs[0]))
    assert not assignments(core.end(seqs[1]))
    assert [given.task for given in assignments(core.end(seqs[2]))] == [seqs[3]]


def test_a_limit_that_tasks_name_is_not_removed() -> None:
    core = Core()
    core.set_limit("licence", 1)
    seq = only(core.submit(limits={"licence": 1}))
    answer = core.answer(core.set_limit("licence", None))
    assert answer == SettingDone(True, "1 unfinished tasks name it: cancel them, or let them end")
    core.cancel(seq)
    assert core.answer(core.set_limit("licence", None)) == SettingDone(True)
    assert core.answer(core.set_limit("licence", None)) == SettingDone(False)
    assert not core.record.settings


def test_others_pass_who_wait_for_a_limit() -> None:
    core = Core()
    core.hello(cpu=2000)
    core.set_limit("licence", 0)
    blocked: Sequence[TaskSeq] = core.submit(3, limits={"licence": 1}, priority="critical")
    assert core.states([*blocked, *core.submit(2, priority="low")]) == ["pending"] * 3 + ["assigned"] * 2
