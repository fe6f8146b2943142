"""The state of the core and the notes of the turn that is under way.

Handlers (intake, attempts, fleet, dispatch) share one `State`. What a turn changes is noted
here as it happens and becomes one `Save`, one `Assign` a worker and the replies when
the turn is over, so that a task that changes three times in a turn is written once.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final
from weakref import WeakKeyDictionary, ref

from rota.core.calendars import Calendars
from rota.core.changes import Changes
from rota.core.cluster import Cluster
from rota.core.commands import ReplyTo, SessionId
from rota.core.config import SchedulerConfig
from rota.core.effects import Accepted, Answer, Disconnect, Effect, Notice, Reply, Save, Send
from rota.core.exclusive import ExclusiveWaits
from rota.core.gangs import Gangs
from rota.core.holds import Holds
from rota.core.limits import Limits
from rota.core.model import (
    AttemptKey,
    Cause,
    ClientRecord,
    Epoch,
    Progress,
    Reason,
    TaskFacts,
    TaskRecord,
    TaskSeq,
    Terms,
    WorkerId,
)
from rota.core.ordering import Arrivals, Known, OrderingFactory
from rota.core.pending import PendingTasks
from rota.core.placement.placements import Placements
from rota.core.protocol import Assign, Assignment, FromCoordinator, GangSeats, Recall, Stop
from rota.core.queues import Queues
from rota.core.reservations import Reservations
from rota.core.task import Task, progress_so_far
from rota.core.timers import Timers
from rota.core.workers import Worker

__all__ = ["HOLD_REASONS", "Counts", "State", "TurnNotes"]


HOLD_REASONS: Final = (Reason.BACKOFF, Reason.START_TIME, Reason.EXCLUSIVE, Reason.GANG)
"""Why a task waits out of the queues."""

REMEMBER_S: Final = 60.0
"""How long the chosen id of an ended task is kept in memory."""


class Counts:
    """What happened since the start, for metrics: plain integers, because they are touched once a task.

    Whoever makes schedulers may give each the counts of the one before, so that they grow over a reload.
    """

    __slots__ = (
        "accepted",
        "attempts_assigned",
        "attempts_lost",
        "attempts_retried",
        "attempts_returned",
        "blackouts",
        "calendar_fired",
        "calendar_missed",
        "calendar_skipped",
        "cancelled",
        "completed",
        "failed",
        "reports_stale",
        "workers_lost",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.completed = 0
        self.cancelled = 0
        self.failed: dict[Cause, int] = {}
        self.attempts_assigned = 0
        self.attempts_lost = 0
        self.attempts_retried = 0
        self.attempts_returned = 0
        self.reports_stale = 0
        self.workers_lost = 0
        self.blackouts = 0
        self.calendar_fired = 0
        self.calendar_skipped = 0
        self.calendar_missed = 0


class TurnNotes:
    """What the turn under way has changed and wants done."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.dirty: dict[TaskSeq, Task] = {}
        self.ended: dict[TaskSeq, Progress] = {}
        self.chosen_ids: dict[TaskSeq, str] = {}
        self.dirty_workers: dict[WorkerId, Worker] = {}
        self.assignments: dict[SessionId, list[Assignment]] = {}
        self.gangs: dict[SessionId, list[GangSeats]] = {}
        self.leased: dict[SessionId, list[AttemptKey]] = {}
        self.stops: dict[tuple[SessionId, Cause], list[AttemptKey]] = {}
        self.recalls: dict[SessionId, list[AttemptKey]] = {}
        self.messages: list[Effect] = []
        self.notices: list[Effect] = []
        self.replies: list[tuple[ReplyTo, Answer]] = []
        self.accepted: list[tuple[ReplyTo, list[TaskFacts]]] = []
        self.clients: dict[str, ClientRecord] = {}
        self.calendar_work = 0

    def send(self, session: SessionId, message: FromCoordinator) -> None:
        """Tell a worker something once the turn is on the record."""
        self.messages.append(Send(session, message))

    def disconnect(self, session: SessionId, reason: str) -> None:
        """Close a session once the turn is on the record."""
        self.messages.append(Disconnect(session, reason))

    def notice(self, event: str, worker: WorkerId | None = None, detail: str = "") -> None:
        """Let an operator know."""
        self.notices.append(Notice(event, worker, detail))


class State:
    """Everything the core knows."""

    def __init__(
        self,
        config: SchedulerConfig,
        *,
        placements: Placements,
        ordering: OrderingFactory,
        epoch: Epoch,
        next_seq: TaskSeq,
        rng: random.Random,
    ) -> None:
        self.config = config
        self.epoch = epoch
        self.next_seq = next_seq
        self.rng = rng
        self.queues = Queues()
        self.limits = Limits()
        self.reservations = Reservations()
        self.calendars = Calendars()
        self.arrivals = Arrivals()
        self.cluster = Cluster(placements, self.queues)
        self.ordering = ordering(Known(self.queues, self.arrivals, config.ageing, self.cluster.shared_capacity))
        self.pending = PendingTasks()
        self.holds = Holds(self.cluster, self.pending, self.ordering)
        self.held: dict[Reason, int] = dict.fromkeys(HOLD_REASONS, 0)
        self.gangs = Gangs()
        self.exclusive = ExclusiveWaits(config.exclusive_wait_s)
        self.timers = Timers()
        self.tasks: dict[TaskSeq, Task] = {}
        self.chosen_ids: dict[str, TaskSeq] = {}
        self._ended_ids: deque[tuple[float, str]] = deque()
        self._retried: dict[TaskSeq, tuple[int, float] | None] = {}
        self._retried_until: deque[tuple[float, TaskSeq]] = deque()
        self.clients: dict[str, ClientRecord] = {}
        self.task_blobs: dict[TaskSeq, tuple[str, ...]] = {}
        # Both ends are weak: a key that is its own value would keep itself, and with it the blob of its function.
        self.terms: WeakKeyDictionary[Terms, ref[Terms]] = WeakKeyDictionary()
        self.counts = Counts()
        self.notes = TurnNotes()
        self.now = 0.0
        self.wall = 0.0

    def intern(self, terms: Terms) -> Terms:
        """Return the one object that stands for these terms."""
        reference = self.terms.get(terms)
        known = None if reference is None else reference()
        if known is None:
            self.terms[terms] = ref(terms)
            return terms
        return known

    def remember_ended(self, chosen_id: str) -> None:
        """Keep a chosen id for a while: a submit that looked it up before the end was saved must still meet it."""
        self._ended_ids.append((self.now + REMEMBER_S, chosen_id))

    def remember_retried(self, seq: TaskSeq) -> None:
        """Keep in mind that a task was brought back: a second retry may still come with a record from before that."""
        self._retried[seq] = None

    def note_retried_end(self, task: Task, ended_at: float) -> None:
        """Note how a task ended that was brought back: with which attempt, or before another began, and when."""
        if task.seq in self._retried:
            self._retried[task.seq] = (task.attempt, ended_at)
            self._retried_until.append((self.now + REMEMBER_S, task.seq))

    def is_latest(self, record: TaskRecord) -> bool:
        """Say whether an ended task is still as this record has it, as far as a minute's memory goes."""
        seq, chosen_id = record.facts.seq, record.facts.chosen_id
        retried = self._retried.get(seq)
        return (
            seq not in self.tasks
            and seq not in self.notes.ended
            and retried in (None, (record.progress.attempt, record.progress.ended_at))
            and (chosen_id is None or self.chosen_ids.get(chosen_id, seq) == seq)
        )

    def forget_ended(self) -> None:
        """Let go of what is remembered of ended tasks once their end has long been on the record."""
        while self._retried_until and self._retried_until[0][0] <= self.now:
            retried = self._retried_until.popleft()[1]
            if retried not in self.tasks:
                self._retried.pop(retried, None)
        ended = self._ended_ids
        while ended and ended[0][0] <= self.now:
            chosen_id = ended.popleft()[1]
            seq = self.chosen_ids.get(chosen_id)
            if seq is not None and seq not in self.tasks:
                del self.chosen_ids[chosen_id]

    def blobs_in_use(self) -> set[str]:
        """The digests that unfinished tasks name, and those that calendars will.

        O(terms, calendars and tasks that name some): for slow paths only.
        """
        functions = {terms.function for terms in self.terms if terms.function is not None}
        return functions.union(self.calendars.blobs(), *self.task_blobs.values())

    def touch(self, task: Task) -> None:
        """Note that the row of a task must be written."""
        self.notes.dirty[task.seq] = task
        if task.chosen_id is not None:
            self.notes.chosen_ids[task.seq] = task.chosen_id

    def finish_turn(self) -> list[Effect]:
        """Turn the notes into effects, in the order of the duties, and begin new notes."""
        notes, self.notes = self.notes, TurnNotes()
        changes, leased, gangs = notes.changes, notes.leased, notes.gangs
        progress = {seq: progress_so_far(task) for seq, task in notes.dirty.items()}
        progress.update(notes.ended)
        changes.progress = list(progress.items())
        changes.chosen_ids = notes.chosen_ids
        changes.clients = list(notes.clients.values())
        if len(changes.settings) > 1:  # one that was changed twice is kept as it is now
            changes.settings = list({(one.kind, one.name): one for one in changes.settings}.values())
        changes.workers = [worker.record() for worker in notes.dirty_workers.values()]
        effects: list[Effect] = [] if changes.is_empty() else [Save(changes)]
        effects += [Reply(to, answer) for to, answer in notes.replies]
        effects += [
            Reply(to, Accepted([TaskRecord(facts, progress[facts.seq]) for facts in accepted]))
            for to, accepted in notes.accepted
        ]
        effects += notes.messages
        effects += [
            Send(session, Assign(self.epoch, batch, leased.get(session, []), gangs.get(session, [])))
            for session, batch in notes.assignments.items()
        ]
        effects += [
            Send(session, Stop(keys, cause, self.config.kill_grace_s)) for (session, cause), keys in notes.stops.items()
        ]
        effects += [Send(session, Recall(keys)) for session, keys in notes.recalls.items()]
        effects += notes.notices
        return effects
