"""What the core wants done, in the words of whoever does it. Effects compare by value."""

from __future__ import annotations

from msgspec import Struct

from rota.core.changes import Changes
from rota.core.commands import ReplyTo, SessionId
from rota.core.model import NumberRange, TaskRecord, TaskSeq, WorkerId
from rota.core.protocol import FromCoordinator

__all__ = [
    "Accepted",
    "Answer",
    "CalendarRun",
    "Disconnect",
    "Effect",
    "GangRefused",
    "IdsTaken",
    "Notice",
    "NumbersKnown",
    "Reply",
    "Save",
    "Send",
    "SettingDone",
    "Settled",
    "WakeAt",
    "WorkerForgotten",
    "WorkerKnown",
]


class Accepted(Struct, frozen=True):
    """The tasks of a submit, in its order, as they stand at the end of the turn."""

    tasks: list[TaskRecord]


class IdsTaken(Struct, frozen=True):
    """Nothing was accepted: these chosen ids (by index in the submit) exist."""

    indices: list[int]


class GangRefused(Struct, frozen=True):
    """Nothing was accepted: the gang of one of the tasks (by index in the submit) does not take it."""

    index: int
    message: str


class Settled(Struct, frozen=True):
    """The tasks that a command found in a state that it could change."""

    seqs: list[TaskSeq]


class WorkerKnown(Struct, frozen=True):
    """Whether there is such a worker."""

    known: bool


class WorkerForgotten(Struct, frozen=True):
    """Such a worker is not known now; if it still is, ``problem`` says why."""

    problem: str | None = None


class SettingDone(Struct, frozen=True):
    """Whether there was such a setting before, and, if it was not changed, why not."""

    existed: bool
    problem: str | None = None


class CalendarRun(Struct, frozen=True):
    """The task that a calendar has made, because somebody asked for it."""

    seq: TaskSeq


class NumbersKnown(Struct, frozen=True):
    """Which of a client's numbers became which tasks. All up to ``accepted_through`` are decided."""

    accepted_through: int
    ranges: list[NumberRange]


Answer = (
    Accepted
    | IdsTaken
    | GangRefused
    | Settled
    | WorkerKnown
    | WorkerForgotten
    | NumbersKnown
    | SettingDone
    | CalendarRun
)


class Save(Struct, frozen=True):
    """Make this durable before anything else of the turn is seen by anybody."""

    changes: Changes


class Reply(Struct, frozen=True):
    """Tell the one who asked."""

    to: ReplyTo
    answer: Answer


class Send(Struct, frozen=True):
    """Tell a worker, on this session and no other."""

    session: SessionId
    message: FromCoordinator


class Disconnect(Struct, frozen=True):
    """Close a session that was replaced or refused."""

    session: SessionId
    reason: str


class Notice(Struct, frozen=True):
    """Something an operator should know: a worker went silent or came back, a blackout began.

    ``event`` is a stable name for the log (``worker_offline``), ``fields`` what it is about.
    """

    event: str
    worker: WorkerId | None = None
    detail: str = ""


class WakeAt(Struct, frozen=True):
    """Apply a `Tick` at this steady time, if nothing else happens before."""

    at: float


Effect = Save | Reply | Send | Disconnect | Notice | WakeAt
