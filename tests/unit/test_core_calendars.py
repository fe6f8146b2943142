"""Calendars: which fire times make tasks, over jumps of the clock, restarts, pauses and tasks that don't end."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from rota.core.calendars import (
    COUNTED_MAX,
    DECIDED_MAX,
    GRACE_S,
    HISTORY_MAX,
    MADE_UP_MAX,
    UNFINISHED_MAX,
)
from rota.core.effects import CalendarRun, Notice, SettingDone
from rota.core.model import TaskSeq
from rota.core.spec import decode_spec
from rota.core.timers import CALENDAR_LOOK_S
from tests.support.core import EPOCH_WALL, Core, only, saved

START = datetime.fromisoformat("2030-01-31T09:59:30Z").timestamp()
"""Half a minute before ten."""


def new_core() -> Core:
    return Core(wall=START)


def labels_of(core: Core, seq: TaskSeq) -> dict[str, str]:
    labels: dict[str, str] = json.loads(core.record.facts[seq].labels or "{}")
    return labels


def fired(core: Core) -> list[str]:
    """The fire times of all tasks there ever were, as hour and minute, in order of their tasks."""
    return [labels_of(core, seq).get("cron-at", "by hand")[11:16] or "by hand" for seq in sorted(core.record.facts)]


def history(core: Core) -> list[tuple[str, int]]:
    return [(record.outcome, record.count) for record in core.calendar().progress.history]


def at(core: Core, time: str) -> None:
    """Set the wall clock to a time of that day, and let the core see it."""
    core.jump_wall(datetime.fromisoformat(f"2030-01-31T{time}Z").timestamp() - core.wall)
    core.pass_time(CALENDAR_LOOK_S)
    core.pass_time(0.0)


def test_a_fire_time_makes_a_task_that_knows_whose_it_is() -> None:
    core = new_core()
    core.set_calendar("0 * * * *", name="hourly", zone="Europe/Berlin", task={"command": ["true"], "env": {"A": "b"}})
    core.pass_time(29.0)
    assert not core.record.facts
    core.pass_time(1.0)
    seq = only(core.record.facts)
    expected = "2030-01-31T11:00:00+01:00"
    assert labels_of(core, seq) == {"cron": "hourly", "cron-at": expected}
    spec = decode_spec(core.record.facts[seq].spec)
    assert spec.env == {"A": "b", "ROTA_CRON": "hourly", "ROTA_CRON_AT": expected}
    assert spec.name == core.record.facts[seq].name == "hourly"
    core.pass_time(3600.0)
    assert fired(core) == ["11:00", "12:00"]


def test_the_task_and_the_note_of_it_are_in_one_commit() -> None:
    core = new_core()
    core.set_calendar("* * * * *")
    core.now += 30.0
    changes = saved(core.do())
    assert [facts.seq for facts in changes.accepted] == [1]
    setting = only(changes.settings)
    assert setting.kind == "calendar-progress"
    assert json.loads(setting.data)["through"] == START + 30.0


def test_a_restart_fires_nothing_again_and_what_came_meanwhile() -> None:
    core = new_core()
    core.set_calendar("* * * * *")
    core.pass_time(31.0)
    core = core.restarted()
    core.pass_time(5.0)
    assert fired(core) == ["10:00"]
    core = core.restarted(after_s=GRACE_S)
    core.do()
    assert fired(core) == ["10:00", "10:01"]


def test_a_clock_set_back_fires_nothing_again() -> None:
    core = new_core()
    core.set_calendar("* * * * *")
    core.pass_time(150.0)
    assert fired(core) == ["10:00", "10:01", "10:02"]
    at(core, "09:50:30")
    core.pass_time(600.0)
    assert fired(core) == ["10:00", "10:01", "10:02", *(f"09:{minute}" for minute in range(51, 60))]
    core.pass_time(180.0)
    assert fired(core)[-1] == "10:03"
    assert len(set(fired(core))) == len(fired(core))


def test_a_clock_set_back_while_it_was_down_fires_nothing_again() -> None:
    core = new_core()
    core.set_calendar("* * * * *")
    core.pass_time(31.0)
    core.jump_wall(-40.0)
    core = core.restarted()
    core.pass_time(60.0)
    assert fired(core) == ["10:00"]
    core.pass_time(60.0)
    assert fired(core) == ["10:00", "10:01"]


def test_a_clock_that_stood_far_ahead_does_not_stop_it() -> None:
    core = new_core()
    core.set_calendar("0 * * * *")
    core.pass_time(31.0)
    core.jump_wall(10 * 366 * 86_400.0)
    core.pass_time(CALENDAR_LOOK_S)
    core.jump_wall(-10 * 366 * 86_400.0)
    core.pass_time(3600.0)
    assert fired(core)[0] == "10:00"
    assert fired(core)[-1] == "11:00"
    assert len(fired(core)) == 3  # one for all that seemed to be missed


@pytest.mark.parametrize(
    "evening,expected",
    [
        ("2030-03-30T22:00:00Z", ["2030-03-31T03:00:00+02:00", "2030-04-01T02:30:00+02:00"]),
        ("2030-10-26T22:00:00Z", ["2030-10-27T02:30:00+02:00", "2030-10-28T02:30:00+01:00"]),
    ],
    ids=["forward", "back"],
)
def test_a_night_in_which_clocks_are_set_fires_once(evening: str, expected: list[str]) -> None:
    core = Core(wall=datetime.fromisoformat(evening).timestamp())
    core.set_calendar("30 2 * * *", zone="Europe/Berlin", misfire="all")
    # Somebody sets the clock of the machine, too, at four in the morning; and another night passes.
    for hours in (0.5, *[0.5] * 8, -1.0, *[0.5] * 54):
        core.jump_wall(hours * 3600.0)
        core.pass_time(CALENDAR_LOOK_S)
    assert [labels_of(core, seq)["cron-at"] for seq in sorted(core.record.facts)] == expected


@pytest.mark.parametrize(
    "misfire,expected",
    [
        ("skip", ["10:00", "13:00"]),
        ("once", ["10:00", "12:00", "13:00"]),
        ("all", ["10:00", "11:00", "12:00", "13:00"]),
    ],
)
def test_what_becomes_of_missed_times_is_as_was_said(misfire: str, expected: list[str]) -> None:
    core = new_core()
    core.set_calendar("0 * * * *", misfire=misfire)
    core.pass_time(40.0)
    core = core.restarted(after_s=2.5 * 3600)
    core.pass_time(3600.0)
    assert fired(core) == expected
    assert history(core)[0] == ("fired", 1)
    assert sum(count for outcome, count in history(core) if outcome == "missed") == 4 - len(expected)
    assert core.state.counts.calendar_missed == 4 - len(expected)


@pytest.mark.parametrize("misfire", ["skip", "once", "all"])
def test_a_little_late_is_not_missed(misfire: str) -> None:
    core = new_core()
    core.set_calendar("* * * * *", misfire=misfire)
    core = core.restarted(after_s=30.0 + GRACE_S)
    core.do()
    assert fired(core) == ["10:00", "10:01"]
    core = core.restarted(after_s=GRACE_S + 0.5)
    core.do()
    assert fired(core) == ["10:00", "10:01", "10:02"]


def test_one_in_time_stands_for_those_that_were_missed() -> None:
    core = new_core()
    core.set_calendar("* * * * *", misfire="once")
    core = core.restarted(after_s=600.0)
    effects = core.do()
    assert fired(core) == ["10:09"]
    assert history(core) == [("missed", 9), ("fired", 1)]
    notice = only(effect for effect in effects if isinstance(effect, Notice))
    assert notice.event == "calendar_missed"
    assert notice.detail == "c1: 9 fire times, 2030-01-31T10:00:00+00:00 to 2030-01-31T10:08:00+00:00"


def test_all_is_bounded_and_says_so() -> None:
    core = new_core()
    core.set_calendar("* * * * *", misfire="all")
    core = core.restarted(after_s=60.0 * 3 * MADE_UP_MAX)
    core.do()
    # The two that are in time find that there are too many already.
    assert len(core.record.facts) == MADE_UP_MAX == UNFINISHED_MAX
    progress = core.calendar().progress
    assert progress.history[-1].outcome == "skipped"
    assert len(progress.history) == HISTORY_MAX
    assert core.calendar().next_at == START + 30.0 + 60.0 * 3 * MADE_UP_MAX


@pytest.mark.parametrize("misfire", ["skip", "once"])
def test_what_is_missed_is_counted_up_to_a_bound(misfire: str) -> None:
    core = new_core()
    core.set_calendar("*/10 * * * *", misfire=misfire)
    core = core.restarted(after_s=600.0 * 3 * COUNTED_MAX + 120.0)
    core.do()
    missed = core.calendar().progress.history[0]
    assert (missed.outcome, missed.more) == ("missed", True)
    assert COUNTED_MAX <= missed.count <= COUNTED_MAX + 2
    assert len(core.record.facts) == (misfire == "once")


def test_missed_times_come_again_if_the_clock_is_set_back_before_them() -> None:
    core = new_core()
    core.set_calendar("0 * * * *", misfire="skip")
    at(core, "14:30:00")
    assert fired(core) == []
    at(core, "11:30:00")
    core.pass_time(3 * 3600.0)
    assert fired(core) == ["12:00", "13:00", "14:00"]


def test_no_more_than_so_many_spans_are_kept_apart() -> None:
    core = new_core()
    core.set_calendar("* * * * *", misfire="once")
    for _ in range(3 * DECIDED_MAX):
        core = core.restarted(after_s=600.0)
        core.do()
    assert len(core.calendar().progress.decided) == DECIDED_MAX
    tasks = len(core.record.facts)
    core.jump_wall(-7200.0)
    core.pass_time(7200.0)
    assert len(core.record.facts) > tasks
    times = [labels_of(core, seq)["cron-at"] for seq in core.record.facts]
    assert len(set(times)) == len(times)


def test_with_overlap_skip_nothing_is_made_while_a_task_has_not_ended() -> None:
    core = new_core()
    core.hello()
    core.set_calendar("* * * * *", overlap="skip")
    core.pass_time(150.0)
    assert fired(core) == ["10:00"]
    assert history(core) == [("fired", 1), ("skipped", 2)]
    assert core.calendar().progress.history[1].seq == only(core.record.facts)
    core.end(only(core.record.facts))
    core.pass_time(60.0)
    assert fired(core) == ["10:00", "10:03"]
    assert core.state.counts.calendar_skipped == 2


def test_overlap_is_known_after_a_restart() -> None:
    core = new_core()
    core.set_calendar("* * * * *", overlap="skip")
    core.pass_time(31.0)
    core = core.restarted(after_s=60.0)
    core.do()
    assert fired(core) == ["10:00"]
    core.cancel(only(core.record.facts))
    core.pass_time(60.0)
    assert fired(core) == ["10:00", "10:02"]


def test_with_overlap_allow_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.core.firing.UNFINISHED_MAX", 5)
    core = new_core()
    core.set_calendar("* * * * *")
    core.pass_time(60.0 * 15)
    assert len(core.record.facts) == 5
    assert history(core)[-1] == ("skipped", 10)
    answer = core.answer(core.run_calendar())
    assert isinstance(answer, SettingDone)
    assert answer.problem is not None


def test_what_comes_during_a_pause_is_forgotten() -> None:
    core = new_core()
    core.set_calendar("* * * * *", misfire="all")
    core.pass_time(31.0)
    assert core.answer(core.pause_calendar()) == SettingDone(True)
    core.pass_time(600.0)
    core = core.restarted()
    assert core.calendar().next_at is None
    core.pass_time(600.0)
    core.pause_calendar(paused=False)
    core.pass_time(60.0)
    assert fired(core) == ["10:00", "10:21"]


def test_one_that_is_paused_shows_what_would_come() -> None:
    core = new_core()
    core.set_calendar("0 * * * *", paused=True)
    core.pass_time(86_400.0)
    assert core.calendar().upcoming(2, wall=core.wall) == [START + 86_400.0 + 30.0, START + 86_400.0 + 3630.0]


def test_a_fire_time_that_has_come_is_not_lost_to_a_change() -> None:
    core = new_core()
    core.set_calendar("* * * * *")
    core.now += 30.2
    core.pause_calendar()
    assert fired(core) == ["10:00"]


def test_a_run_by_hand_has_no_fire_time_and_counts_as_one_that_has_not_ended() -> None:
    core = new_core()
    core.set_calendar("* * * * *", overlap="skip", paused=True)
    answer = core.answer(core.run_calendar())
    assert answer == CalendarRun(TaskSeq(1))
    assert labels_of(core, TaskSeq(1)) == {"cron": "c1"}
    assert "ROTA_CRON_AT" not in decode_spec(core.record.facts[TaskSeq(1)].spec).env
    core.pause_calendar(paused=False)
    core.pass_time(60.0)
    assert history(core) == [("manual", 1), ("skipped", 1)]
    assert core.answer(core.run_calendar("other")) == SettingDone(False)


def test_the_same_again_changes_nothing_and_another_needs_to_be_a_replacement() -> None:
    core = new_core()
    assert core.answer(core.set_calendar("0 3 * * *")) == SettingDone(False)
    core.now += 10.0
    effects = core.set_calendar("0 3 * * *")
    assert core.answer(effects) == SettingDone(True)
    assert saved(effects).is_empty()
    answer = core.answer(core.set_calendar("0 4 * * *"))
    assert isinstance(answer, SettingDone)
    assert answer.problem is not None
    assert core.calendar().calendar.expression == "0 3 * * *"
    assert core.answer(core.set_calendar("0 4 * * *", replaces=True)) == SettingDone(True)
    assert core.restarted().calendar().calendar.expression == "0 4 * * *"


def test_a_replacement_says_whether_it_is_paused_or_leaves_that_as_it_is() -> None:
    core = new_core()
    core.set_calendar("0 3 * * *")
    core.pause_calendar()
    core.set_calendar("0 3 * * *")
    assert core.calendar().calendar.paused
    core.set_calendar("0 4 * * *", replaces=True, keeps_pause=True)
    assert (core.calendar().calendar.expression, core.calendar().calendar.paused) == ("0 4 * * *", True)
    core.set_calendar("0 4 * * *", replaces=True)
    assert not core.calendar().calendar.paused
    core.set_calendar("0 4 * * *", replaces=True, paused=True)
    assert core.restarted().calendar().calendar.paused


def test_a_replacement_does_not_fire_what_was_fired() -> None:
    core = new_core()
    core.set_calendar("* * * * *")
    core.pass_time(150.0)
    at(core, "09:59:30")
    core.set_calendar("*/1 * * * *", replaces=True)
    core.pass_time(180.0)
    assert fired(core) == ["10:00", "10:01", "10:02"]


def test_spans_of_another_expression_stay_apart() -> None:
    core = new_core()
    core.set_calendar("0 * * * *", misfire="skip")
    at(core, "10:00:05")
    core.set_calendar("* * * * *", misfire="skip", replaces=True)
    at(core, "10:30:05")
    assert fired(core) == ["10:00", "10:30"]
    at(core, "09:30:00")
    core.set_calendar("0 * * * *", misfire="skip", replaces=True)
    at(core, "11:00:05")
    assert fired(core)[2:] == ["11:00"]
    assert len(core.calendar().progress.decided) == 3
    core.set_calendar("* * * * *", misfire="skip", replaces=True)
    at(core, "10:28:55")
    core.pass_time(125.0)
    assert fired(core)[3:] == ["10:31"]


def test_a_removed_one_is_gone_also_after_a_restart() -> None:
    core = new_core()
    core.set_calendar("* * * * *")
    core.pass_time(31.0)
    assert core.answer(core.remove_calendar()) == SettingDone(True)
    assert core.answer(core.remove_calendar()) == SettingDone(False)
    core.pass_time(60.0)
    assert not core.record.settings
    core = core.restarted()
    core.pass_time(60.0)
    assert fired(core) == ["10:00"]


def test_there_is_a_bound_for_calendars_and_for_those_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.core.firing.CALENDARS_MAX", 10)
    monkeypatch.setattr("rota.core.firing.TURN_WORK_MAX", 40)
    core = new_core()
    for number in range(10):
        core.set_calendar("* * * * *", name=f"c{number}")
    answer = core.answer(core.set_calendar("* * * * *", name="more"))
    assert isinstance(answer, SettingDone)
    assert answer.problem == "there are 10 calendars already, and no more are taken: remove some"
    core.now += 30.0
    assert len(saved(core.do()).accepted) == 4
    core.pass_time(0.0)
    assert len(core.record.facts) == 10


def test_what_changes_twice_in_a_turn_is_saved_once() -> None:
    core = new_core()
    core.set_calendar("* * * * *")
    core.now += 30.0
    changes = saved(core.run_calendar())
    assert len(changes.accepted) == 2
    assert [setting.kind for setting in changes.settings] == ["calendar-progress"]
    assert core.restarted().calendar().progress.through == START + 30.0
    assert history(core) == [("manual", 1), ("fired", 1)]


def test_a_task_that_is_retried_has_not_ended() -> None:
    core = new_core()
    core.hello()
    core.set_calendar("* * * * *", overlap="skip")
    core.pass_time(31.0)
    seq = only(core.record.facts)
    core.end(seq, "exit", exit_code=1)
    core.retry(seq)
    core.pass_time(60.0)
    assert history(core) == [("fired", 1), ("skipped", 1)]


def test_a_limit_that_a_calendar_names_is_kept() -> None:
    core = new_core()
    core.set_limit("licence", 1)
    core.set_calendar("* * * * *", task={"command": ["true"], "limits": {"licence": 1}})
    problem = "calendar c1 names it: remove it first, or have it say something else"
    assert core.answer(core.set_limit("licence", None)) == SettingDone(True, problem)
    core.remove_calendar()
    assert core.answer(core.set_limit("licence", None)) == SettingDone(True)


@pytest.mark.parametrize(
    "task",
    [
        {"function": "ab" * 32, "blobs": ["cd" * 32]},
        {"command": ["cat", "a"], "files": {"a": "ab" * 32, "b": "cd" * 32}},
    ],
)
def test_blobs_that_its_tasks_need_are_kept(task: dict[str, Any]) -> None:
    core = new_core()
    digest, blob = "ab" * 32, "cd" * 32
    effects = core.set_calendar("0 3 * * *", task=task)
    assert set(saved(effects).blobs) == core.state.blobs_in_use() == {digest, blob}
    assert core.restarted().state.blobs_in_use() == {digest, blob}
    core.remove_calendar()
    assert core.state.blobs_in_use() == set()


def test_a_zone_that_is_missing_here_stops_one_calendar_and_nothing_else() -> None:
    core = new_core()
    core.set_calendar("* * * * *", name="good")
    core.set_calendar("* * * * *", name="lost")
    key = ("calendar", "lost")
    setting = core.record.settings[key]
    core.record.settings[key] = type(setting)(*key, setting.data.replace('"UTC"', '"Mars/Olympus"'))
    core = core.restarted(after_s=31.0)
    core.do()
    assert len(core.record.facts) == 1
    assert core.calendar("lost").problem == (
        "there is no time zone 'Mars/Olympus'; use a name such as UTC or Europe/Berlin"
    )
    core.remove_calendar("lost")


def test_the_wall_clock_alone_says_when() -> None:
    core = Core(now=5000.0, wall=EPOCH_WALL)
    core.set_calendar("0 * * * *")
    waits_s = 3600.0 - EPOCH_WALL % 3600.0
    core.jump_wall(waits_s - 1.0)
    core.pass_time(CALENDAR_LOOK_S)
    assert len(core.record.facts) == 1
