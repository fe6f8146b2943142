"""What the clocks bring about: start times, deadlines, patience, on a steady clock and on a calendar that jumps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rota.core.effects import Effect
from rota.core.model import Cause, Reason, TaskSeq, TaskState
from rota.core.protocol import Ended
from rota.core.timers import CALENDAR_LOOK_S, UNWANTED_MAX, DeadlineDue, TaskReady, Timers
from tests.support.core import Core, assignments, only, stopped

HOUR_S = 3600.0


def moment(core: Core, in_s: float) -> str:
    """A calendar time so many seconds from now, as a user writes it."""
    return datetime.fromtimestamp(core.wall + in_s, UTC).isoformat()


def given(effects: list[Effect]) -> list[TaskSeq]:
    return [assignment.task for assignment in assignments(effects)]


# Starts


@pytest.mark.parametrize("is_duration", [True, False])
def test_task_starts_at_its_time_and_not_before(*, is_duration: bool) -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(delay=60) if is_duration else core.submit(start_at=moment(core, 60)))
    assert core.states([seq]) == ["pending"]
    assert given(core.pass_time(59.9)) == []
    assert given(core.pass_time(0.2)) == [seq]


def test_delay_does_not_follow_a_calendar_that_jumps() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(delay=60))
    core.jump_wall(-HOUR_S)
    assert given(core.pass_time(59.0)) == []
    core.jump_wall(+2 * HOUR_S)
    assert given(core.pass_time(0.9)) == []
    assert given(core.pass_time(0.2)) == [seq]


def test_start_time_follows_a_calendar_set_forward() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(start_at=moment(core, HOUR_S)))
    core.jump_wall(HOUR_S)
    assert given(core.pass_time(CALENDAR_LOOK_S)) == [seq]


def test_start_time_follows_a_calendar_set_back() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(start_at=moment(core, 60)))
    core.jump_wall(-HOUR_S)
    assert given(core.pass_time(HOUR_S)) == []
    assert given(core.pass_time(61.0)) == [seq]


def test_start_time_in_the_past_is_now() -> None:
    core = Core()
    core.hello()
    assert core.states(core.submit(start_at=moment(core, -HOUR_S))) == ["assigned"]


def test_task_whose_start_time_came_keeps_the_place_of_its_number() -> None:
    core = Core()
    core.hello(cpu=1000)
    running = only(core.submit())
    early = only(core.submit(delay=10))
    late = only(core.submit())
    core.pass_time(11.0)
    assert given(core.end(running)) == [early]
    assert core.states([late]) == ["pending"]


# Deadlines


@pytest.mark.parametrize("is_duration", [True, False])
def test_waiting_task_expires_at_its_deadline(*, is_duration: bool) -> None:
    core = Core()
    seq = only(core.submit(deadline=60 if is_duration else moment(core, 60)))
    core.pass_time(59.0)
    assert core.states([seq]) == ["pending"]
    core.pass_time(1.5)
    assert (core.progress(seq).state, core.progress(seq).cause) == (TaskState.FAILED, Cause.EXPIRED)
    assert core.progress(seq).ended_at == pytest.approx(core.wall, abs=1.0)


def test_task_that_waits_for_its_start_time_expires_too() -> None:
    core = Core()
    seq = only(core.submit(delay=100, deadline=60))
    core.pass_time(61.0)
    assert core.states([seq]) == ["failed"]
    assert core.state.held[Reason.START_TIME] == 0


def test_running_task_is_stopped_at_its_deadline_and_ends_expired() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(deadline=60, retries=5))
    core.start(seq)
    assert stopped(core.pass_time(61.0)) == [(seq, 1)]
    assert core.progress(seq).wish is Cause.EXPIRED
    core.end(seq, Cause.EXPIRED)
    assert (core.progress(seq).state, core.progress(seq).cause) == (TaskState.FAILED, Cause.EXPIRED)


def test_deadline_that_has_passed_ends_the_task_as_it_is_accepted() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(deadline=moment(core, -1)))
    assert (core.progress(seq).state, core.progress(seq).cause) == (TaskState.FAILED, Cause.EXPIRED)


def test_deadline_as_duration_does_not_follow_a_calendar_that_jumps() -> None:
    core = Core()
    seq = only(core.submit(deadline=60))
    core.jump_wall(+HOUR_S)
    core.pass_time(59.0)
    assert core.states([seq]) == ["pending"]
    core.jump_wall(-2 * HOUR_S)
    core.pass_time(2.0)
    assert core.states([seq]) == ["failed"]


def test_deadline_of_a_task_that_was_cancelled_before_changes_nothing() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(deadline=60))
    core.cancel(seq)
    assert stopped(core.pass_time(61.0)) == []
    core.report(ended=[Ended(seq, 1, Cause.CANCELLED)])
    assert core.states([seq]) == ["cancelled"]


# Restarts


def test_durations_go_on_over_a_restart() -> None:
    core = Core()
    core.hello()
    delayed, doomed, failing = (
        *core.submit(delay=60),
        *core.submit(deadline=60, tags=["none"]),
        *core.submit(retries=1, backoff=60),
    )
    core.end(failing, "exit")
    again = core.restarted(after_s=30.0)
    again.hello()
    assert again.states([delayed, doomed, failing]) == ["pending"] * 3
    assert set(given(again.pass_time(31.0))) == {delayed, failing}
    assert again.states([doomed]) == ["failed"]


def test_clock_set_back_over_a_restart_makes_no_duration_longer() -> None:
    core = Core()
    core.hello()
    delayed, doomed = (*core.submit(delay=60), *core.submit(deadline=60, tags=["none"]))
    failing = only(core.submit(retries=1, backoff={"base": 20, "max": 300}))
    core.end(failing, "exit")
    core.jump_wall(-HOUR_S)
    again = core.restarted()
    again.hello()
    assert given(again.pass_time(21.0)) == [failing]
    assert given(again.pass_time(40.0)) == [delayed]
    assert again.states([doomed]) == ["failed"]


def test_what_came_due_while_nobody_was_there_happens_at_once() -> None:
    core = Core()
    core.hello()
    delayed, doomed = (*core.submit(delay=60), *core.submit(deadline=60, tags=["none"]))
    again = core.restarted(after_s=HOUR_S)
    assert given(again.hello()) == [delayed]
    assert again.states([doomed]) == ["failed"]


# The timers themselves


def test_timers_fire_by_time_and_equal_ones_in_the_order_they_were_set() -> None:
    timers = Timers()
    ready = [TaskReady(TaskSeq(number), 1) for number in range(4)]
    for at, timer in zip((2.0, 1.0, 2.0, 3.0), ready, strict=True):
        timers.at(at, timer)
    assert timers.take_due(now=2.0, wall=0.0) == [ready[1], ready[0], ready[2]]
    assert timers.take_due(now=2.0, wall=0.0) == []


def test_timers_of_ended_tasks_do_not_pile_up() -> None:
    core = Core()
    core.hello(cpu=100_000_000)
    lasting = only(core.submit(deadline=86_400))
    for _ in range(12):
        seqs = core.submit(1000, deadline=86_400)
        core.report(ended=[Ended(seq, 1, None, run_s=9.0) for seq in seqs])
        assert len(core.state.timers) < UNWANTED_MAX + 1100
    core.pass_time(86_401.0)
    assert core.progress(lasting).wish is Cause.EXPIRED


def test_wanted_timers_all_stay_however_many() -> None:
    timers = Timers()
    for number in range(2 * UNWANTED_MAX):
        timers.at(float(-number), TaskReady(TaskSeq(number), 1))
        timers.drop_unwanted(lambda timer: True)
    assert len(timers) == 2 * UNWANTED_MAX
    assert timers.take_due(now=1.0 - 2 * UNWANTED_MAX, wall=0.0) == [TaskReady(TaskSeq(2 * UNWANTED_MAX - 1), 1)]


def test_next_look_is_at_the_first_timer_of_either_clock() -> None:
    timers = Timers()
    assert timers.next_at(now=0.0, wall=1000.0) is None
    timers.at(50.0, TaskReady(TaskSeq(1), 1))
    assert timers.next_at(now=0.0, wall=1000.0) == 50.0
    timers.at_wall(1002.0, DeadlineDue(TaskSeq(1)))
    assert timers.next_at(now=0.0, wall=1000.0) == 2.0
    assert timers.next_at(now=0.0, wall=900.0) == CALENDAR_LOOK_S
    assert timers.next_at(now=0.0, wall=1010.0) == 0.0
