"""Calendars: no fire time makes two tasks, whatever clocks, crashes and people do; and with ``all`` none is lost."""

from __future__ import annotations

import json

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rota.core.calendars import MISFIRES, OVERLAPS, Misfire, Overlap
from rota.core.invariants import check_invariants
from rota.core.model import TaskSeq
from rota.core.timers import CALENDAR_LOOK_S
from tests.support.core import Core

START = 1_900_000_000.0 - 1_900_000_000.0 % 86_400.0 + 86_400.0
"""Midnight of some day."""

EXPRESSIONS = ("* * * * *", "*/2 * * * *", "0 * * * *")
JUMPS_S = st.sampled_from([0.4, 30.0, 61.0, 150.0, 300.0, 600.0, 3600.0, 86_400.0])


def fire_times(core: Core) -> dict[TaskSeq, str]:
    """The fire times of all tasks on the record."""
    labels = {seq: json.loads(facts.labels or "{}") for seq, facts in core.record.facts.items()}
    return {seq: found["cron-at"] for seq, found in labels.items() if "cron-at" in found}


class CalendarMachine(RuleBasedStateMachine):
    """A core with one calendar, driven through everything that may happen to it."""

    @initialize(
        expression=st.sampled_from(EXPRESSIONS),
        zone=st.sampled_from(["UTC", "Europe/Berlin"]),
        misfire=st.sampled_from(MISFIRES),
        overlap=st.sampled_from(OVERLAPS),
    )
    def begin(self, expression: str, zone: str, misfire: Misfire, overlap: Overlap) -> None:
        self.seen: dict[TaskSeq, str] = {}
        self.core = Core(wall=START)
        self.core.set_calendar(expression, zone=zone, misfire=misfire, overlap=overlap)

    @rule(seconds=st.sampled_from([0.0, 20.0, 61.0, 130.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.core.pass_time(seconds)

    @rule(seconds=JUMPS_S, sign=st.sampled_from([-1.0, 1.0]))
    def the_clock_jumps(self, seconds: float, sign: float) -> None:
        self.core.jump_wall(sign * seconds)

    @rule(after_s=st.sampled_from([0.0, 5.0, 100.0, 10_000.0]), jump_s=JUMPS_S, sign=st.sampled_from([-1.0, 0.0, 1.0]))
    def the_coordinator_is_killed_and_comes_again(self, after_s: float, jump_s: float, sign: float) -> None:
        self.core.jump_wall(sign * jump_s)
        self.core = self.core.restarted(after_s=after_s)

    @rule()
    def a_commit_fails(self) -> None:
        """Whatever the turn decided is dropped, and the state is read again."""
        core = self.core
        core.scheduler.apply([], now=core.now, wall=core.wall)
        self.core = core.restarted()

    @rule(paused=st.booleans())
    def somebody_pauses_it(self, *, paused: bool) -> None:
        self.core.pause_calendar(paused=paused)

    @rule(expression=st.sampled_from(EXPRESSIONS))
    def somebody_changes_it(self, expression: str) -> None:
        self.core.set_calendar(expression, replaces=True)

    @rule()
    def its_tasks_end(self) -> None:
        self.core.cancel(*self.core.state.tasks)

    @rule()
    def retention_removes_what_has_ended(self) -> None:
        record = self.core.record
        # But for the newest: here its number says where those to come begin.
        for seq in sorted(record.facts)[:-1]:
            if seq not in self.core.state.tasks:
                record.remove(seq)

    @invariant()
    def no_fire_time_has_two_tasks(self) -> None:
        self.seen |= fire_times(self.core)
        assert len(set(self.seen.values())) == len(self.seen)

    @invariant()
    def it_is_whole(self) -> None:
        check_invariants(self.core.state)


CalendarMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestCalendars = CalendarMachine.TestCase


steps = st.lists(
    st.tuples(st.sampled_from(["pass", "down", "forward", "commit fails"]), st.floats(0.0, 5000.0)), max_size=12
)


@given(steps, st.sampled_from(["* * * * *", "*/7 * * * *", "13 * * * *"]))
@settings(deadline=None, max_examples=60)
def test_with_all_none_is_lost_while_time_goes_forward(steps: list[tuple[str, float]], expression: str) -> None:
    core = Core(wall=START)
    core.set_calendar(expression, misfire="all")
    for step, seconds in steps:
        match step:
            case "pass":
                core.pass_time(min(seconds, 300.0))
            case "down":
                core = core.restarted(after_s=seconds)
            case "forward":
                core.jump_wall(seconds)
            case _:
                core.scheduler.apply([], now=core.now, wall=core.wall)
                core = core.restarted()
        core.cancel(*core.state.tasks)
    core.pass_time(CALENDAR_LOOK_S)
    times = core.calendar().times
    assert times is not None
    expected = []
    for at in times.after(START):
        if at > core.wall:
            break
        expected.append(times.shown(at))
    assert sorted(fire_times(core).values()) == expected
