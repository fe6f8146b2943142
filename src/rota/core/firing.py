"""Lets calendars make their tasks: set, paused, run by hand, and woken by the wall clock.

A task and the note that its fire time is decided are in one commit; so neither a crash nor another leader makes a
second one, and none is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from rota.core.calendars import (
    CALENDAR_KIND,
    CALENDAR_PROGRESS_KIND,
    UNFINISHED_MAX,
    Calendar,
    CalendarProgress,
    DueFires,
    Entry,
    FireRecord,
    due_fires,
    note_decided,
)
from rota.core.commands import PauseCalendar, RunCalendar, SetCalendar
from rota.core.drafts import draft_of
from rota.core.effects import CalendarRun, SettingDone
from rota.core.intake import Intake
from rota.core.model import Setting, TaskSeq
from rota.core.state import State
from rota.core.timers import CalendarDue

__all__ = ["AT_LABEL", "CALENDARS_MAX", "CALENDAR_LABEL", "Firing"]

CALENDARS_MAX: Final = 1_000
"""So that the minute at which all of them fire is a second's work."""

LOOK_WORK: Final = 10
"""What a look costs, in fire times that are looked at: so a turn looks at a hundred calendars, in 40 ms."""

TURN_WORK_MAX: Final = 1_000
"""Fire times that a turn looks at, but for those of the last calendar: each takes 10 µs, and 60 more for its task."""

CALENDAR_LABEL: Final = "cron"
"""Tasks of a calendar have its name under this label."""

AT_LABEL: Final = "cron-at"
"""And their fire time under this, if they have one: RFC 3339, in the calendar's zone."""


class Firing:
    """Changes calendars, and makes their tasks."""

    def __init__(self, state: State, intake: Intake) -> None:
        self._state = state
        self._intake = intake

    def restore(self, settings: Iterable[Setting]) -> None:
        """Take in what the store has kept, in order of kind and name."""
        for setting in settings:
            if setting.kind in (CALENDAR_KIND, CALENDAR_PROGRESS_KIND):
                entry = self._state.calendars.restore(setting)
                if entry is not None:
                    self._wait(entry)

    # What people ask for

    def set(self, command: SetCalendar) -> None:
        """Add a calendar, have one say something else, or remove it."""
        calendars = self._state.calendars
        entry, calendar = calendars.find(command.name), command.calendar
        problem = None
        if calendar is not None and entry is not None and (command.keeps_pause or not command.replaces):
            calendar = replace(calendar, paused=entry.calendar.paused)
        if calendar is None:
            if entry is not None:
                self._remove(entry)
        elif entry is not None and entry.calendar.is_same(calendar):
            pass
        elif entry is not None and command.replaces:
            self._replace(entry, calendar)
        elif entry is not None:
            problem = "it says something else: replace it (--replace, or PUT), or choose another name"
        elif len(calendars) >= CALENDARS_MAX:
            problem = f"there are {CALENDARS_MAX:,} calendars already, and no more are taken: remove some"
        else:
            entry = Entry(command.name, calendar, CalendarProgress(through=self._state.wall))
            calendars.add(entry)
            self._put(entry)
            self._reply(command, SettingDone(existed=False))
            return
        self._reply(command, SettingDone(entry is not None, problem))

    def pause(self, command: PauseCalendar) -> None:
        """Let a calendar make nothing, or go on: with what comes from now on."""
        entry = self._state.calendars.find(command.name)
        self._reply(command, SettingDone(entry is not None))
        if entry is None or entry.calendar.paused == command.paused:
            return
        self._replace(entry, replace(entry.calendar, paused=command.paused))

    def run(self, command: RunCalendar) -> None:
        """Make a task now, whatever the calendar says."""
        entry = self._state.calendars.find(command.name)
        if entry is None:
            self._reply(command, SettingDone(existed=False))
            return
        self._forget_ended(entry.progress)
        if len(entry.progress.unfinished) >= UNFINISHED_MAX:
            self._reply(command, SettingDone(True, _too_many()))
            return
        wall = self._state.wall
        seq = self._make_task(entry, None)
        entry.progress.note(FireRecord("manual", wall, wall, wall, seq))
        self._keep_progress(entry)
        self._reply(command, CalendarRun(seq))

    # What the clock brings about

    def due(self, timer: CalendarDue) -> None:
        """Look at a calendar whose fire time has come, unless it waits for another one by now."""
        entry = self._state.calendars.find(timer.name)
        if entry is None or entry.next_at != timer.at:
            return
        notes = self._state.notes
        if notes.calendar_work >= TURN_WORK_MAX:
            self._state.timers.at(self._state.now, timer)  # in the next turn, which is at once
            return
        self._look(entry)

    def follow_clock(self) -> None:
        """Wait anew where the wall clock was set back to before what was looked at. O(1) while it was not."""
        state = self._state
        if state.wall >= state.calendars.looked_at:
            return
        state.calendars.looked_at = state.wall
        for entry in state.calendars.all():
            if entry.progress.through > state.wall:
                entry.progress.through = state.wall
                self._wait(entry)

    # Helpers

    def _look(self, entry: Entry) -> None:
        assert entry.times is not None
        progress, wall = entry.progress, self._state.wall
        due = due_fires(entry.times, progress, misfire=entry.calendar.misfire, wall=wall)
        self._state.notes.calendar_work += LOOK_WORK + due.work
        if due.missed:
            self._note_missed(entry, due)
        self._forget_ended(progress)
        for at, before in zip(due.fires, due.before, strict=True):
            self._fire(entry, at)
            note_decided(progress, at, before=before)
        progress.through = due.through
        self._keep_progress(entry)
        self._wait(entry)

    def _fire(self, entry: Entry, at: float) -> None:
        """Make the task of a fire time, unless the ones before it are in its way."""
        progress, counts, wall = entry.progress, self._state.counts, self._state.wall
        unfinished_max = 1 if entry.calendar.overlap == "skip" else UNFINISHED_MAX
        if len(progress.unfinished) >= unfinished_max:
            counts.calendar_skipped += 1
            progress.note(FireRecord("skipped", at, at, wall, progress.unfinished[0]))
            return
        counts.calendar_fired += 1
        seq = self._make_task(entry, at)
        progress.note(FireRecord("fired", at, at, wall, seq))

    def _note_missed(self, entry: Entry, due: DueFires) -> None:
        missed, wall = due.missed, self._state.wall
        self._state.counts.calendar_missed += len(missed)
        entry.progress.note(FireRecord("missed", missed[0], missed[-1], wall, None, len(missed), due.more))
        assert entry.times is not None
        count = f"{len(missed):,} or more" if due.more else f"{len(missed):,}"
        span = f"{entry.times.shown(missed[0])} to {entry.times.shown(missed[-1])}"
        self._state.notes.notice("calendar_missed", detail=f"{entry.name}: {count} fire times, {span}")

    def _make_task(self, entry: Entry, at: float | None) -> TaskSeq:
        """Accept a task of a calendar, which knows of it and of its fire time."""
        task = entry.calendar.task
        labels = {**task.labels, CALENDAR_LABEL: entry.name}
        env = {**task.env, "ROTA_CRON": entry.name}
        if at is not None:
            assert entry.times is not None
            labels[AT_LABEL] = env["ROTA_CRON_AT"] = entry.times.shown(at)
        request = replace(task, name=task.name or entry.name, labels=labels, env=env)
        seq = self._intake.accept(draft_of(request, accepted_at=self._state.wall)).seq
        entry.progress.unfinished.append(seq)
        return seq

    def _forget_ended(self, progress: CalendarProgress) -> None:
        progress.unfinished = [seq for seq in progress.unfinished if seq in self._state.tasks]

    def _put(self, entry: Entry) -> None:
        """Keep a calendar as it is now, and wait for its next fire time."""
        changes = self._state.notes.changes
        changes.settings += entry.settings()
        changes.blobs |= dict.fromkeys(entry.calendar.blobs)
        self._wait(entry)

    def _replace(self, entry: Entry, calendar: Calendar) -> None:
        """Have a calendar say something else, of what comes from now on; what has come already is done first."""
        if entry.next_at is not None and entry.next_at <= self._state.wall:
            self._look(entry)
        entry.change(calendar)
        entry.progress.through = max(entry.progress.through, self._state.wall)
        self._put(entry)

    def _remove(self, entry: Entry) -> None:
        self._state.calendars.remove(entry.name)
        changes = self._state.notes.changes
        gone = {(kind, entry.name) for kind in (CALENDAR_KIND, CALENDAR_PROGRESS_KIND)}
        # Also what this turn has kept of it: a store writes that after what it removes.
        changes.settings = [one for one in changes.settings if (one.kind, one.name) not in gone]
        changes.settings_gone += sorted(gone)

    def _keep_progress(self, entry: Entry) -> None:
        self._state.notes.changes.settings.append(entry.progress_setting())

    def _wait(self, entry: Entry) -> None:
        entry.look_ahead()
        calendars = self._state.calendars
        calendars.looked_at = max(calendars.looked_at, entry.progress.through)
        if entry.next_at is not None:
            self._state.timers.at_wall(entry.next_at, CalendarDue(entry.name, entry.next_at))

    def _reply(self, command: SetCalendar | PauseCalendar | RunCalendar, answer: SettingDone | CalendarRun) -> None:
        self._state.notes.replies.append((command.reply_to, answer))


def _too_many() -> str:
    return f"{UNFINISHED_MAX:,} of its tasks have not ended, and no more are made: see why they wait, or cancel some"
