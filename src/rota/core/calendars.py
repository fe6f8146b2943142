"""Calendars: what is to run when the wall clock shows the fire times of a cron expression.

A fire time makes at most one task, whatever clocks do: which ones are *decided* (made a task, or were skipped because
one still ran) is kept with the calendar, in the same commit as the tasks. What was merely missed is not decided: it
comes again if the clock is set back to before it. So a clock that stood in the year 2040 for a minute costs nothing.

`due_fires` is all of the thinking, without a clock: which fire times make a task now, which were missed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from rota.core.cron import CronSyntaxError, FireTimes, UnknownZone
from rota.core.model import Setting, TaskSeq
from rota.core.spec import TaskRequest, blobs_of

__all__ = [
    "CALENDAR_KIND",
    "CALENDAR_PROGRESS_KIND",
    "COUNTED_MAX",
    "GRACE_S",
    "HISTORY_MAX",
    "MADE_UP_MAX",
    "MISFIRES",
    "OVERLAPS",
    "UNFINISHED_MAX",
    "Calendar",
    "CalendarProgress",
    "Calendars",
    "DueFires",
    "Entry",
    "FireRecord",
    "Misfire",
    "Outcome",
    "Overlap",
    "due_fires",
    "next_fire",
    "note_decided",
    "upcoming_fires",
    "was_decided",
]

CALENDAR_KIND: Final = "calendar"
CALENDAR_PROGRESS_KIND: Final = "calendar-progress"
"""Of the settings that a store keeps: two, so that a fire does not write the task again."""

GRACE_S: Final = 60.0
"""A fire time that is seen later than this was missed. Restarts and changes of leader take less, and must cost none."""

MADE_UP_MAX: Final = 1_000
"""Missed fire times that ``all`` makes up for: the latest so many."""

COUNTED_MAX: Final = 100
"""Missed fire times that are counted: a calendar of every minute that missed a year has others to wait for it."""

PROMPT_MAX: Final = 2
"""Fire times that can be due and not late: minutes that begin within `GRACE_S`, at both ends of it."""

UNFINISHED_MAX: Final = 1_000
"""Tasks of one calendar that have not ended: while there are so many it makes no more."""

HISTORY_MAX: Final = 100
"""Lines of a calendar's history: some 6 KiB, written at each fire."""

DECIDED_MAX: Final = 16
"""Spans of decided fire times that are kept apart; a new one begins after a gap. Over it the oldest two become one."""

Misfire = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip"]
Outcome = Literal["fired", "manual", "skipped", "missed"]

MISFIRES: Final[tuple[Misfire, ...]] = ("skip", "once", "all")
OVERLAPS: Final[tuple[Overlap, ...]] = ("allow", "skip")

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Calendar(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an operator has set: ``task``, checked, is submitted at the fire times of ``expression`` in ``zone``.

    ``misfire`` says what becomes of fire times that were missed: nothing, one task for all, or one for each.
    With ``overlap`` ``skip`` nothing is made while a task of this calendar has not ended.
    """

    expression: str
    zone: str
    task: TaskRequest
    misfire: Misfire = "once"
    overlap: Overlap = "allow"
    paused: bool = False
    created_at: float

    def is_same(self, other: Calendar) -> bool:
        """Whether both say the same, whenever they came."""
        return replace(self, created_at=0.0) == replace(other, created_at=0.0)

    @property
    def blobs(self) -> tuple[str, ...]:
        """The digests that its tasks need."""
        blobs = blobs_of(self.task)
        return blobs if self.task.function is None else (self.task.function, *blobs)


class FireRecord(Struct, frozen=True, array_like=True, omit_defaults=True):
    """What became of a fire time, or of ``count`` of them in a row, ``at`` to ``last``.

    ``seq`` is the task that was made; where it was skipped, the one that had not ended. A ``manual`` one has no fire
    time, so ``at`` is when it was asked for. With ``more``, more were missed than were counted.
    """

    outcome: Outcome
    at: float
    last: float
    decided_at: float
    seq: TaskSeq | None = None
    count: int = 1
    more: bool = False


class CalendarProgress(Struct, kw_only=True, omit_defaults=True):
    """How far a calendar has come.

    Fire times up to ``through`` have been looked at; those within ``decided`` never make a task (again).
    ``unfinished`` are its tasks that had not ended when it fired last.
    """

    through: float
    decided: list[tuple[float, float]] = []
    unfinished: list[TaskSeq] = []
    history: list[FireRecord] = []

    def note(self, record: FireRecord) -> None:
        """Add to the history; what goes on as before becomes part of the line before."""
        before = self.history[-1] if self.history else None
        if (
            before is not None
            and record.outcome in ("skipped", "missed")
            and (before.outcome, before.seq) == (record.outcome, record.seq)
        ):
            count = before.count + record.count
            more = before.more or record.more
            self.history[-1] = replace(record, at=min(before.at, record.at), count=count, more=more)
        else:
            self.history.append(record)
            del self.history[:-HISTORY_MAX]


class DueFires(NamedTuple):
    """What a look finds: fire times that make a task, oldest first, and those that were missed and make none.

    ``before`` has for each of ``fires`` what was looked at before it. ``through`` is the latest of all that were due;
    with ``more``, more were missed than are among ``missed``. ``work`` is how many fire times were looked at.
    """

    fires: list[float]
    before: list[float]
    missed: list[float]
    more: bool
    through: float
    work: int


def due_fires(times: FireTimes, progress: CalendarProgress, *, misfire: Misfire, wall: float) -> DueFires:
    """Say what is to be done for the fire times that have come since the last look. O(`MADE_UP_MAX`)."""
    late_max = MADE_UP_MAX + 1 if misfire == "all" else COUNTED_MAX
    due, more = times.latest(late_max + PROMPT_MAX, after=progress.through, until=wall)
    undecided = [at for at in due if not was_decided(progress, at)]
    late = [at for at in undecided if wall - at > GRACE_S]
    prompt = undecided[len(late) :]
    made_up: list[float] = []
    if misfire == "all":
        made_up = late[-MADE_UP_MAX:]
    elif misfire == "once" and not prompt:  # else the one that is in time stands for those before it
        made_up = late[-1:]
    fires = [*made_up, *prompt]
    before = dict(zip(due, [progress.through, *due], strict=False))
    missed = late[: len(late) - len(made_up)]
    through = due[-1] if due else progress.through
    return DueFires(fires, [before[at] for at in fires], missed, more, through, len(due))


def was_decided(progress: CalendarProgress, at: float) -> bool:
    """Whether a fire time has made its task, or was skipped."""
    return any(first <= at <= last for first, last in progress.decided)


def note_decided(progress: CalendarProgress, at: float, *, before: float) -> None:
    """Note that a fire time is decided; it prolongs the span that ends with the one ``before`` it."""
    # Others in between are of another expression, which the calendar had before a clock was set back.
    is_next = not any(before < first < at for first, _ in progress.decided)
    for index, (first, last) in enumerate(progress.decided):
        if last == before and is_next:
            progress.decided[index] = (first, at)
            return
    progress.decided.append((at, at))
    progress.decided.sort()
    if len(progress.decided) > DECIDED_MAX:
        (first, _), (_, last) = progress.decided[:2]
        progress.decided[:2] = [(first, last)]


def next_fire(times: FireTimes, progress: CalendarProgress) -> float | None:
    """The fire time to wait for; ``None`` if none comes any more."""
    return next(upcoming_fires(times, progress, after=progress.through), None)


def upcoming_fires(times: FireTimes, progress: CalendarProgress, *, after: float) -> Iterator[float]:
    """Yield the fire times after a moment that are not decided, without a look at each that is."""
    while True:
        for at in times.after(after):
            span = next((span for span in progress.decided if span[0] <= at <= span[1]), None)
            if span is not None:
                after = span[1]
                break
            yield at
        else:
            return


class Entry:
    """A calendar, how far it has come, and what it waits for.

    ``times`` is ``None`` where what was stored can't be read here (a zone that this machine lacks); ``problem`` says
    why, and it stands still.
    """

    __slots__ = ("calendar", "name", "next_at", "problem", "progress", "times")

    def __init__(self, name: str, calendar: Calendar, progress: CalendarProgress) -> None:
        self.name = name
        self.progress = progress
        self.change(calendar)

    def change(self, calendar: Calendar) -> None:
        """Have it say something else from now on."""
        self.calendar = calendar
        self.times: FireTimes | None = None
        self.problem: str | None = None
        self.next_at: float | None = None
        try:
            self.times = FireTimes(calendar.expression, calendar.zone)
        except (CronSyntaxError, UnknownZone) as error:
            self.problem = str(error)

    def look_ahead(self) -> None:
        """Find what it waits for."""
        waits = self.times is not None and not self.calendar.paused
        self.next_at = next_fire(self.times, self.progress) if self.times is not None and waits else None

    def upcoming(self, count: int, *, wall: float) -> list[float]:
        """The next fire times; of one that is paused, as if it went on now. The first is mostly known already."""
        if self.times is None:
            return []
        known = [self.next_at] if self.next_at is not None and self.next_at > wall else []
        after = max(self.progress.through, wall, *known)
        return [*known, *islice(upcoming_fires(self.times, self.progress, after=after), count - len(known))]

    def settings(self) -> list[Setting]:
        """What a store keeps of it."""
        return [Setting(CALENDAR_KIND, self.name, _encode(self.calendar).decode()), self.progress_setting()]

    def progress_setting(self) -> Setting:
        """What a store keeps of how far it has come."""
        return Setting(CALENDAR_PROGRESS_KIND, self.name, _encode(self.progress).decode())


class Calendars:
    """All calendars by name."""

    def __init__(self) -> None:
        self.looked_at = 0.0
        """The latest time that any of them has looked at: the clock shows less only where it was set back."""
        self._entries: dict[str, Entry] = {}
        self._restored: dict[str, Calendar] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> Entry | None:
        """The calendar of this name."""
        return self._entries.get(name)

    def all(self) -> list[Entry]:
        """All of them, in order of their names."""
        return [self._entries[name] for name in sorted(self._entries)]

    def add(self, entry: Entry) -> None:
        """Take one in, in place of one that has its name."""
        self._entries[entry.name] = entry

    def remove(self, name: str) -> None:
        """Forget one."""
        del self._entries[name]

    def restore(self, setting: Setting) -> Entry | None:
        """Take in what the store has kept: its progress, which comes second, makes it whole."""
        if setting.kind == CALENDAR_KIND:
            self._restored[setting.name] = msgspec.json.decode(setting.data, type=Calendar)
            return None
        progress = msgspec.json.decode(setting.data, type=CalendarProgress)
        entry = Entry(setting.name, self._restored.pop(setting.name), progress)
        self.add(entry)
        return entry

    def naming_limit(self, name: str) -> Sequence[str]:
        """Those whose tasks name a limit of the cluster."""
        return [entry.name for entry in self.all() if name in entry.calendar.task.limits]

    def blobs(self) -> set[str]:
        """The digests that their tasks will need."""
        return {digest for entry in self._entries.values() for digest in entry.calendar.blobs}
