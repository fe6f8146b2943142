"""Lines: short work waits at the worker, never more than it should, and comes back when the head takes long."""

from __future__ import annotations

from typing import Any

import pytest

from rota.core.attempts import LINE_S, OVERDUE_S
from rota.core.dispatch import IN_VAIN_MAX, LINE_MAX
from rota.core.estimates import CLASSES_MAX, UNKNOWN_S, RunTimes
from rota.core.model import AttemptKey, Cause, TaskSeq
from rota.core.protocol import Ended
from tests.support.core import Core, assignments, notices, only, recalled


def taught(run_s: float, **offer: Any) -> Core:
    """A core with one worker, which knows how long the usual task takes."""
    core = Core()
    core.hello(**{"cpu": 1000, **offer})
    core.end(only(core.submit()), run_s=run_s)
    return core


def line(core: Core, worker: str = "w1") -> list[TaskSeq]:
    """What stands in the only lane of a worker."""
    lane = only(core.state.cluster.workers[worker].lanes.values())  # type: ignore[index] # a plain name will do
    return [task.seq for task in lane.line]


def test_class_that_was_never_seen_makes_no_line() -> None:
    core = Core()
    core.hello(cpu=1000)
    assert core.states(core.submit(3)) == ["assigned", "pending", "pending"]


@pytest.mark.parametrize("run_s,expected", [(0.01, 10), (0.03, 3), (0.06, 1), (5.0, 1)])
def test_line_holds_about_a_tenth_of_a_second_of_work(run_s: float, expected: int) -> None:
    core = taught(run_s)
    seqs = core.submit(20)
    assert line(core) == seqs[:expected]
    assert expected * run_s <= LINE_S + run_s


def test_line_has_a_most_however_short_the_work() -> None:
    core = taught(0.0)
    core.submit(LINE_MAX + 10)
    assert len(line(core)) == LINE_MAX


def test_line_is_filled_again_when_a_quarter_is_done() -> None:
    core = taught(0.01)
    seqs = core.submit(20)
    assigned = [len(assignments(core.end(seq, run_s=0.01))) for seq in seqs[:6]]
    # Nothing while three quarters of the tenth are there, then all at once.
    assert assigned == [0, 0, 3, 0, 0, 3]


def test_lines_of_several_lanes_are_shared_out() -> None:
    core = taught(0.01, cpu=3000)
    core.submit(9)
    lanes = only(core.state.cluster.workers.values()).lanes.values()
    assert [len(lane.line) for lane in lanes] == [3, 3, 3]


def test_other_classes_of_the_shape_wait_for_their_own_estimate() -> None:
    core = taught(0.01)
    known = core.submit(2)
    unknown = only(core.submit(name="other"))
    assert line(core) == known
    assert core.states([unknown]) == ["pending"]


def test_line_is_asked_back_when_its_head_takes_too_long() -> None:
    core = taught(0.01)
    head, second, third = core.submit(3)
    core.start(head)
    assert recalled(core.pass_time(0.01 + OVERDUE_S - 0.001)) == []
    assert recalled(core.pass_time(0.002)) == [(second, 1), (third, 1)]
    assert recalled(core.pass_time(10.0)) == []

    core.hello("w2", cpu=2000)
    core.report("w1", ended=[Ended(seq, 1, Cause.RETURNED) for seq in (second, third)])
    assert core.workers_of([second, third]) == ["w2", "w2"]
    assert [core.progress(seq).attempt for seq in (second, third)] == [2, 2]
    assert core.state.counts.attempts_returned == 2


def test_line_that_was_asked_back_gets_nothing_new_until_its_head_ends() -> None:
    core = taught(0.01)
    head, second = core.submit(2)
    core.pass_time(1.0)
    core.end(second, Cause.RETURNED)
    late = only(core.submit())
    assert core.states([second, late]) == ["pending", "pending"]
    core.end(head, run_s=0.01)
    assert core.states([second, late]) == ["assigned", "assigned"]


def test_next_head_that_takes_long_has_its_line_asked_back_too() -> None:
    core = taught(0.01)
    first, second, third = core.submit(3)
    core.pass_time(0.05)
    core.end(first, run_s=0.01)
    core.start(second)
    assert recalled(core.pass_time(0.01 + OVERDUE_S + 0.001)) == [(third, 1)]


def test_recall_that_was_lost_with_the_channel_is_said_again() -> None:
    core = taught(0.01)
    head, second = core.submit(2)
    core.start(head)
    assert recalled(core.pass_time(1.0)) == [(second, 1)]
    holds = [core.held(head, started=True), core.held(second)]
    core.hello(holds=holds)
    assert recalled(core.pass_time(LINE_S + OVERDUE_S + 0.01)) == [(second, 1)]


def test_head_that_overran_while_the_worker_was_away_has_its_line_asked_back() -> None:
    core = taught(0.01)
    head, second = core.submit(2)
    core.start(head)
    core.close()
    assert recalled(core.pass_time(1.0)) == []
    core.hello(holds=[core.held(head, started=True), core.held(second)])
    assert recalled(core.pass_time(LINE_S + OVERDUE_S + 0.01)) == [(second, 1)]


def test_line_behind_a_long_head_comes_back_after_a_restart() -> None:
    core = taught(0.01)
    head, second = core.submit(2)
    core.start(head)
    again = core.restarted()
    again.hello(cpu=1000, holds=[core.held(head, started=True), core.held(second)])
    assert recalled(again.pass_time(LINE_S + OVERDUE_S + 0.01)) == [(second, 1)]


def test_drain_asks_lines_back_and_leaves_heads_alone() -> None:
    core = taught(0.01)
    head, second = core.submit(2)
    assert recalled(core.set_drained("w1", drained=True)) == [(second, 1)]
    core.end(second, Cause.RETURNED)
    assert core.states([head, second]) == ["assigned", "pending"]


@pytest.mark.parametrize("how", ["drained", "away", "leaving"])
def test_worker_that_takes_nothing_new_has_its_lines_left_alone(how: str) -> None:
    core = taught(0.01)
    core.submit()
    if how == "drained":
        core.set_drained("w1", drained=True)
    elif how == "away":
        core.close()
    else:
        core.leave()
    assert core.states(core.submit(3)) == ["pending"] * 3


def test_drain_of_a_worker_that_is_away_asks_its_line_back_when_it_returns() -> None:
    core = taught(0.01)
    head, second = core.submit(2)
    core.close()
    assert recalled(core.set_drained("w1", drained=True)) == []
    assert recalled(core.hello(holds=[core.held(head), core.held(second)])) == [(second, 1)]


def test_worker_that_leaves_gives_its_line_back() -> None:
    core = taught(0.01)
    head, second = core.submit(2)
    effects = core.leave()
    assert recalled(effects) == [(second, 1)]
    assert notices(effects) == ["worker_leaving"]
    core.end(second, Cause.RETURNED)
    core.end(head)
    assert core.states([head, second]) == ["completed", "pending"]


def test_line_overtakes_no_earlier_task_that_waits_for_the_same_worker() -> None:
    core = taught(0.01)
    core.submit()
    large = only(core.submit(priority="high", resources={"cpu": 1000, "memory": 1}))
    small = core.submit(5)
    assert core.states([large, *small]) == ["pending"] * 6
    assert len(line(core)) == 1


def test_line_may_grow_before_a_later_task_that_waits() -> None:
    core = taught(0.01)
    core.submit()
    small = only(core.submit())
    core.submit(resources={"cpu": 1000, "memory": 1})
    assert core.states([small]) == ["assigned"]


def test_line_does_not_mind_who_waits_for_another_worker() -> None:
    core = taught(0.01)
    core.hello("w2", cpu=100, tags=["ssd"])
    core.submit(tags=["ssd"], resources={"cpu": 100})
    core.submit(priority="high", tags=["ssd"], resources={"cpu": 100})
    seqs = core.submit(3)
    assert core.states(seqs) == ["assigned"] * 3


def test_lane_that_can_take_nothing_does_not_keep_lines_from_the_others() -> None:
    core = taught(0.01, cpu=100_000)
    core.end(only(core.submit(name="long")), run_s=0.04)
    core.end(only(core.submit(name="middling")), run_s=0.07)
    core.submit(3 * IN_VAIN_MAX, name="long")  # with one of these a lane is hungry, and has no room for a middling one
    core.submit(100 - 3 * IN_VAIN_MAX)
    late = core.submit(5, name="middling")
    for _ in range(5):
        core.submit(name="middling")  # any pass will do: each asks others first
    assert core.states(late) == ["assigned"] * 5


def test_lanes_are_not_asked_for_work_that_is_too_long_for_a_line() -> None:
    core = taught(0.01, cpu=100_000)
    core.submit(100)
    room = only(room for room in core.state.cluster.rooms.values() if room.lanes)
    before = list(room.hungry)
    core.submit(name="other")
    assert list(room.hungry) == before
    assert len(before) == 100


def test_only_the_first_of_a_lane_is_charged_when_the_worker_is_lost() -> None:
    core = taught(0.01)
    head, second, third = core.submit(3, losses=5)
    core.close()
    core.hello(instance="i2", cpu=1000)
    assert [core.progress(seq).losses_used for seq in (head, second, third)] == [1, 0, 0]
    causes = [only(core.record.attempts[seq]).cause for seq in (head, second, third)]
    assert causes == [Cause.WORKER_LOST, Cause.RETURNED, Cause.RETURNED]
    assert core.state.counts.attempts_lost == 1


# Estimates


def test_estimate_follows_what_was_seen_and_one_outlier_moves_it_little() -> None:
    times = RunTimes()
    assert times.estimate_s("a") == UNKNOWN_S
    times.learn("a", 1.0)
    times.learn("a", 1000.0)
    assert 1.0 < times.estimate_s("a") < 2.0
    for _ in range(60):
        times.learn("a", 1000.0)
    assert times.estimate_s("a") > 900.0


def test_least_used_class_is_forgotten_first() -> None:
    times = RunTimes()
    for number in range(CLASSES_MAX):
        times.learn(str(number), 1.0)
    times.learn("0", 1.0)
    times.learn("new", 1.0)
    assert times.estimate_s("0") == 1.0
    assert times.estimate_s("1") == UNKNOWN_S


def shares(core: Core) -> dict[str, int]:
    """How many attempts each worker has."""
    return {
        worker.id: sum(len(lane.line) for lane in worker.lanes.values())
        for worker in core.state.cluster.workers.values()
    }


def give_back(core: Core, keys: list[AttemptKey]) -> None:
    core.report("w1", ended=[Ended(*key, Cause.RETURNED) for key in keys])


def test_idle_worker_takes_half_of_a_line_back_from_a_loaded_one() -> None:
    core = taught(0.01)
    seqs = core.submit(10)
    asked = recalled(core.hello("w2", cpu=1000))
    assert asked == [(seq, 1) for seq in seqs[5:]]
    give_back(core, asked)
    assert shares(core) == {"w1": 5, "w2": 5}


def test_lane_that_ran_out_takes_from_another_of_its_worker() -> None:
    core = taught(0.01, cpu=2000)
    core.submit(20)
    first, second = only(core.state.cluster.workers.values()).lanes.values()
    whole = [task.seq for task in first.line]
    asked = [key for task in list(second.line) for key in recalled(core.end(task.seq, run_s=0.01))]
    assert asked == [(seq, 1) for seq in whole[len(whole) // 2 :]]


def test_line_is_asked_once_for_each_head() -> None:
    core = taught(0.01)
    core.submit(10)
    assert recalled(core.hello("w2", cpu=1000))
    assert recalled(core.hello("w3", cpu=1000)) == []


def test_short_rest_of_a_line_is_left_where_it_is() -> None:
    core = taught(0.005)
    core.submit(4)
    assert recalled(core.hello("w2", cpu=1000)) == []


def test_worker_that_can_not_run_it_takes_nothing_back() -> None:
    core = taught(0.01)
    core.submit(10)
    assert recalled(core.hello("w2", cpu=500)) == []


def test_line_that_was_shared_is_still_asked_back_behind_a_long_head() -> None:
    core = taught(0.01)
    head, *rest = core.submit(10)
    core.start(head)
    shared = recalled(core.hello("w2", cpu=1000))
    give_back(core, shared)
    left = [(seq, 1) for seq in rest if (seq, 1) not in shared]
    assert recalled(core.pass_time(1.0))[: len(left)] == left
