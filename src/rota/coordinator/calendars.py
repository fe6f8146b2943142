"""Calendars as operators see and set them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Final

from msgspec import Struct

from rota.coordinator.loop import Loop
from rota.coordinator.recorder import Recorder
from rota.coordinator.room import WaitingRoom
from rota.coordinator.shares import check_limits
from rota.core.calendars import Calendar, Entry, FireRecord
from rota.core.commands import PauseCalendar, RunCalendar, SetCalendar
from rota.core.cron import CronSyntaxError, FireTimes, UnknownZone
from rota.core.effects import CalendarRun, SettingDone
from rota.core.errors import BadSpec, Conflict, NotFound
from rota.core.model import TaskId, TaskSeq, TaskState, generated_task_id
from rota.core.spec import TaskRequest
from rota.process.clock import wall_s

__all__ = ["CalendarDesk", "CalendarView", "FireView"]

UPCOMING: Final = 5
"""Fire times to come that are shown of one calendar; of each in a list, one."""


NAME_STEM_CHARS_MAX: Final = 40
"""Of a program's name in the name that a calendar is given."""


class FireView(Struct, frozen=True):
    """What became of a fire time; ``state`` is that of its task now, ``None`` if retention has removed it."""

    record: FireRecord
    task: TaskId | None
    state: TaskState | None


class CalendarView(Struct, frozen=True):
    """A calendar: what it says, when it fires next, what it did last, and which of its tasks have not ended.

    ``shown`` writes a moment in its zone. ``problem`` says why it stands still, if it does.
    """

    name: str
    calendar: Calendar
    upcoming: list[float]
    last: FireView | None
    unfinished: list[TaskId]
    problem: str | None
    shown: Callable[[float], str]


class CalendarDesk:
    """Reads and changes the calendars of the coordinator that serves now.

    Args:
        loop: Where commands go.
        recorder: Where tasks are looked up.
        room: Says whether more tasks may wait.
        check: Raises `BadRequest` where a task names a policy or a blob that is not here.
    """

    def __init__(
        self, loop: Loop, recorder: Recorder, *, room: WaitingRoom, check: Callable[[Sequence[TaskRequest]], None]
    ) -> None:
        self._loop = loop
        self._recorder = recorder
        self._room = room
        self._check = check

    async def all(self) -> list[CalendarView]:
        """All calendars, in order of their names."""
        entries = self._loop.scheduler().state.calendars.all()
        return await self._views(entries, upcoming=1)

    async def get(self, name: str) -> CalendarView:
        """One of them. Raises `NotFound`."""
        return (await self._views([self._entry(name)], upcoming=UPCOMING))[0]

    async def history(self, name: str) -> tuple[CalendarView, list[FireView]]:
        """What became of its latest fire times, the latest first. Raises `NotFound`."""
        view, records = await self.get(name), self._entry(name).progress.history[::-1]
        return view, await self._fires(records)

    async def add(self, name: str | None, calendar: Calendar) -> tuple[str, bool]:
        """Add a calendar; return its name and whether it was there before, saying the same.

        Raises:
            BadSpec: The expression, the zone or the task makes no sense.
            Conflict: One of this name says something else, or there are too many.
        """
        if name is None:
            name = self._free_name(calendar.task)
        done = await self._set(name, calendar, replaces=False)
        if done.problem is not None:
            there_is = f"there is a calendar {name!r} already, and " if done.existed else ""
            raise Conflict(there_is + done.problem)
        return name, done.existed

    async def put(self, name: str, calendar: Calendar, *, keeps_pause: bool = False) -> bool:
        """Add a calendar, or have the one of this name say something else; return whether it was there before.

        With ``keeps_pause`` that one stays paused, or not, as it is.

        Raises:
            BadSpec: The expression, the zone or the task makes no sense.
            Conflict: There are too many.
        """
        done = await self._set(name, calendar, replaces=True, keeps_pause=keeps_pause)
        if done.problem is not None:
            raise Conflict(done.problem)
        return done.existed

    async def remove(self, name: str) -> None:
        """Remove a calendar; its tasks stay. Raises `NotFound`."""
        of = self._loop.scheduler()
        done = await self._loop.ask(lambda to: SetCalendar(name, None, to), SettingDone, of=of)
        if not done.existed:
            raise _no_calendar(name)

    async def pause(self, name: str, *, paused: bool) -> CalendarView:
        """Let a calendar make nothing, or go on. Raises `NotFound`."""
        of = self._loop.scheduler()
        done = await self._loop.ask(lambda to: PauseCalendar(name, paused, to), SettingDone, of=of)
        if not done.existed:
            raise _no_calendar(name)
        return await self.get(name)

    async def run(self, name: str) -> TaskId:
        """Make a task of a calendar now. Raises `NotFound`, `Conflict`, `Overloaded`."""
        of = self._loop.scheduler()
        self._room.check(1)
        answer: CalendarRun | SettingDone = await self._loop.ask(
            lambda to: RunCalendar(name, to), (CalendarRun, SettingDone), of=of
        )
        if isinstance(answer, CalendarRun):
            return generated_task_id(answer.seq)
        if answer.problem is not None:
            raise Conflict(f"calendar {name!r}: {answer.problem}")
        raise _no_calendar(name)

    # Helpers

    async def _set(self, name: str, calendar: Calendar, *, replaces: bool, keeps_pause: bool = False) -> SettingDone:
        of = self._loop.scheduler()
        _check_times(calendar)
        self._check([calendar.task])
        check_limits([calendar.task], of.state)
        return await self._loop.ask(
            lambda to: SetCalendar(name, calendar, to, replaces, keeps_pause), SettingDone, of=of
        )

    def _free_name(self, task: TaskRequest) -> str:
        """A name that says what runs, as far as a name may: ``backup-3f9a``."""
        calendars = self._loop.scheduler().state.calendars
        program = task.name or (PurePath(task.command[0]).name if task.command else "")
        letters = "".join(char for char in program if char.isascii() and (char.isalnum() or char in "._-"))
        stem = letters.lstrip("._-")[:NAME_STEM_CHARS_MAX] or "calendar"
        while calendars.find(name := f"{stem}-{secrets.token_hex(2)}") is not None:
            pass  # there are sixty times more than calendars
        return name

    def _entry(self, name: str) -> Entry:
        entry = self._loop.scheduler().state.calendars.find(name)
        if entry is None:
            raise _no_calendar(name)
        return entry

    async def _views(self, entries: Sequence[Entry], *, upcoming: int) -> list[CalendarView]:
        last = await self._fires([entry.progress.history[-1] for entry in entries if entry.progress.history])
        of_entry = iter(last)
        return [
            CalendarView(
                name=entry.name,
                calendar=entry.calendar,
                upcoming=entry.upcoming(upcoming, wall=wall_s()),
                last=next(of_entry) if entry.progress.history else None,
                unfinished=self._unfinished(entry.progress.unfinished),
                problem=entry.problem,
                shown=(entry.times or FireTimes("@daily", "UTC")).shown,
            )
            for entry in entries
        ]

    def _unfinished(self, seqs: Sequence[TaskSeq]) -> list[TaskId]:
        tasks = self._loop.scheduler().state.tasks
        return [generated_task_id(seq) for seq in seqs if seq in tasks]

    async def _fires(self, records: Sequence[FireRecord]) -> list[FireView]:
        """Look up what became of the tasks."""
        ids = [None if record.seq is None else generated_task_id(record.seq) for record in records]
        found = await self._recorder.store.find_tasks([task_id for task_id in ids if task_id is not None])
        states = [found[task_id].progress.state if task_id in found else None for task_id in ids]
        return [FireView(*parts) for parts in zip(records, ids, states, strict=True)]


def _check_times(calendar: Calendar) -> None:
    try:
        FireTimes(calendar.expression, calendar.zone)
    except CronSyntaxError as error:
        raise BadSpec("expression", str(error)) from error
    except UnknownZone as error:
        raise BadSpec("zone", str(error)) from error


def _no_calendar(name: str) -> NotFound:
    return NotFound(f"there is no calendar {name!r}: see `rota cron list`")
