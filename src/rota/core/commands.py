"""What is asked of the core: every command, and nothing else, changes its state.

A command that wants an answer carries ``reply_to``, a number that comes back in a `Reply`
effect once the change is on the record. Workers are addressed by *session*: the number of an
open channel, so that what was meant for an old channel never reaches a new one.
"""

from __future__ import annotations

from typing import NewType

from msgspec import Struct

from rota.core.calendars import Calendar
from rota.core.model import TaskRecord, TaskSeq, Terms, WorkerId
from rota.core.protocol import Heartbeat, Hello, Report
from rota.core.queues import QueueSettings
from rota.core.reservations import Reservation

__all__ = [
    "CancelTasks",
    "ClientArrived",
    "Command",
    "Draft",
    "DraftGroup",
    "ForgetWorker",
    "LeavingArrived",
    "ObserverStalled",
    "PauseCalendar",
    "ReplyTo",
    "ReportArrived",
    "RetryTask",
    "RunCalendar",
    "SessionClosed",
    "SessionId",
    "SetCalendar",
    "SetDrained",
    "SetLimit",
    "SetQueue",
    "SetReservation",
    "SlotsLostArrived",
    "SubmitNumbered",
    "SubmitTasks",
    "Tick",
    "WorkerBeat",
    "WorkerHello",
]

ReplyTo = NewType("ReplyTo", int)
SessionId = NewType("SessionId", int)


class Draft(Struct, frozen=True, gc=False):
    """A task that has been checked and is not yet accepted.

    ``start_at`` and ``deadline_at`` are wall-clock times; ``start_in_s`` and ``deadline_in_s`` are
    set as well where the user gave durations, which must not follow the wall clock when it jumps.
    ``blobs`` are the digests that it needs besides its function: of large arguments, or of its files.
    """

    chosen_id: str | None
    terms: Terms
    spec: bytes
    name: str | None = None
    labels: str | None = None
    start_at: float | None = None
    start_in_s: float | None = None
    deadline_at: float | None = None
    deadline_in_s: float | None = None
    blobs: tuple[str, ...] = ()


class DraftGroup(Struct, frozen=True):
    """Drafts that differ by their arguments alone: the spec of each is that of ``draft`` with one of ``args``.

    Without ``args`` it is one task, as it stands. Where ``draft`` is ``None`` the ``count`` tasks are refused.
    """

    draft: Draft | None
    args: list[bytes]
    count: int


class SubmitNumbered(Struct, frozen=True):
    """Accept the tasks of a client's session that were not accepted before.

    The first has ``number``, the others follow. The client knows the ids up to ``known_through``. Answered by
    `NumbersKnown` with those of this batch.
    """

    session: str
    number: int
    known_through: int
    groups: list[DraftGroup]
    reply_to: ReplyTo


class ClientArrived(Struct, frozen=True):
    """A client has opened a channel. Answered by `NumbersKnown` with all that it has not confirmed."""

    session: str
    known_through: int
    reply_to: ReplyTo


class SubmitTasks(Struct, frozen=True):
    """Accept these tasks, all or none. Answered by `Accepted`, `IdsTaken` or `GangRefused`."""

    drafts: list[Draft]
    reply_to: ReplyTo


class CancelTasks(Struct, frozen=True):
    """Wish the end of these tasks. Answered by `Settled`: those that have not ended, as they are then."""

    seqs: list[TaskSeq]
    reply_to: ReplyTo


class RetryTask(Struct, frozen=True):
    """Bring back a task that has failed or was cancelled, as it stands in the store, with the ``mates`` of its gang.

    Answered by `Settled`; empty if one of them is not as its record says any more.
    """

    record: TaskRecord
    reply_to: ReplyTo
    mates: list[TaskRecord] = []


class SetQueue(Struct, frozen=True):
    """Change what is set of a queue; ``None`` forgets it. Answered by `SettingDone`."""

    name: str
    settings: QueueSettings | None
    reply_to: ReplyTo


class SetLimit(Struct, frozen=True):
    """Set how much there is of a limit; ``None`` removes it. Answered by `SettingDone`."""

    name: str
    size: int | None
    reply_to: ReplyTo


class SetReservation(Struct, frozen=True):
    """Reserve, or, with ``None``, end a reservation. Answered by `SettingDone`."""

    name: str
    reservation: Reservation | None
    reply_to: ReplyTo


class SetCalendar(Struct, frozen=True):
    """Add a calendar, or, with ``None``, remove it. Answered by `SettingDone`.

    One of this name that says something else is left alone unless this one ``replaces`` it. With ``keeps_pause`` one
    that is there stays paused or not, as it is, whatever this one says of that.
    """

    name: str
    calendar: Calendar | None
    reply_to: ReplyTo
    replaces: bool = False
    keeps_pause: bool = False


class PauseCalendar(Struct, frozen=True):
    """Let a calendar make nothing, or go on. Answered by `SettingDone`."""

    name: str
    paused: bool
    reply_to: ReplyTo


class RunCalendar(Struct, frozen=True):
    """Make a task of a calendar now. Answered by `CalendarRun`, or by `SettingDone` if there is none."""

    name: str
    reply_to: ReplyTo


class SetDrained(Struct, frozen=True):
    """Give a worker nothing new, or let it work again. Answered by `WorkerKnown`."""

    worker: WorkerId
    drained: bool
    reply_to: ReplyTo


class ForgetWorker(Struct, frozen=True):
    """Strike off a worker that is gone for good, without waiting for its time. Answered by `WorkerForgotten`."""

    worker: WorkerId
    reply_to: ReplyTo


class WorkerHello(Struct, frozen=True):
    """A worker's first message on a new session."""

    session: SessionId
    hello: Hello


class WorkerBeat(Struct, frozen=True):
    """A worker lives."""

    session: SessionId
    beat: Heartbeat


class ReportArrived(Struct, frozen=True):
    """What a worker reports of its attempts. Acknowledged once it is on the record."""

    session: SessionId
    report: Report


class SlotsLostArrived(Struct, frozen=True):
    """A worker can't empty some of its slots and offers that many lanes less."""

    session: SessionId
    count: int
    message: str


class LeavingArrived(Struct, frozen=True):
    """A worker drains by itself, or is done with that and goes."""

    session: SessionId
    done: bool


class SessionClosed(Struct, frozen=True):
    """A channel is gone. The worker may come back; it is not lost yet."""

    session: SessionId


class ObserverStalled(Struct, frozen=True):
    """This process stood still for so long: nobody's silence in that time counts."""

    lag_s: float


class Tick(Struct, frozen=True):
    """Nothing happened but time."""


Command = (
    SubmitTasks
    | SubmitNumbered
    | ClientArrived
    | CancelTasks
    | RetryTask
    | SetDrained
    | ForgetWorker
    | SetQueue
    | SetLimit
    | SetReservation
    | SetCalendar
    | PauseCalendar
    | RunCalendar
    | WorkerHello
    | WorkerBeat
    | ReportArrived
    | SlotsLostArrived
    | LeavingArrived
    | SessionClosed
    | ObserverStalled
    | Tick
)
