"""The core: commands in, effects out.

`Scheduler.apply` is the only way its state changes. It is deterministic: the same commands at
the same times with the same seed give the same effects. It knows no clock, no thread and no I/O;
whoever drives it (`turn`, a test, the simulator) says what time it is, on two clocks: ``now`` is
steady and never jumps, ``wall`` is what a calendar shows.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

from rota.core.attempts import Attempts
from rota.core.clients import Clients
from rota.core.commands import (
    CancelTasks,
    ClientArrived,
    Command,
    ForgetWorker,
    LeavingArrived,
    ObserverStalled,
    PauseCalendar,
    ReportArrived,
    RetryTask,
    RunCalendar,
    SessionClosed,
    SetCalendar,
    SetDrained,
    SetLimit,
    SetQueue,
    SetReservation,
    SlotsLostArrived,
    SubmitNumbered,
    SubmitTasks,
    Tick,
    WorkerBeat,
    WorkerHello,
)
from rota.core.config import SchedulerConfig
from rota.core.dispatch import Dispatch
from rota.core.effects import Effect, WakeAt
from rota.core.firing import Firing
from rota.core.fleet import Fleet
from rota.core.intake import Intake
from rota.core.model import ClientRecord, Epoch, Progress, Setting, TaskRecord, TaskSeq, TaskState, WorkerRecord
from rota.core.ordering import ORDERINGS
from rota.core.placement.placements import Placements
from rota.core.placement.policies import POLICIES, PolicyFactory
from rota.core.protocol import ReportAck
from rota.core.settings import Settings
from rota.core.shadow import Shadow
from rota.core.spec import decode_spec, terms_of
from rota.core.state import State, TurnNotes
from rota.core.task import Task, task_from_record
from rota.core.timers import (
    CalendarDue,
    DeadlineDue,
    GangImpossible,
    Impossible,
    LineOverdue,
    ReservationDue,
    TaskReady,
    Timer,
    WorkerDue,
)

__all__ = ["Scheduler"]


class Scheduler:
    """Decides. Made anew at every start, and after every commit that failed."""

    def __init__(
        self,
        config: SchedulerConfig,
        *,
        cluster_id: str,
        epoch: Epoch,
        next_seq: TaskSeq,
        now: float,
        wall: float,
        policies: Mapping[str, PolicyFactory] = POLICIES,
    ) -> None:
        rng = random.Random(f"{config.seed}/{epoch}")
        self.state = State(
            config,
            placements=Placements(rng, default=config.placement, factories=policies),
            ordering=ORDERINGS[config.ordering],
            epoch=epoch,
            next_seq=next_seq,
            rng=rng,
        )
        self.state.now, self.state.wall = now, wall
        self.state.exclusive.begin(now)
        self._attempts = Attempts(self.state)
        self._intake = Intake(self.state, self._attempts)
        self._clients = Clients(self.state, self._intake)
        self._settings = Settings(self.state)
        self._firing = Firing(self.state, self._intake)
        self._fleet = Fleet(self.state, self._attempts, cluster_id=cluster_id, started_at=now)
        self._dispatch = Dispatch(self.state, self._attempts)
        self.shadow: Shadow | None = None
        if config.shadow is not None:
            lots = f"{config.seed}/{epoch}/shadow"
            self.shadow = Shadow(config.shadow, self.state.cluster, factories=policies, seed=lots, now=now)
            self.state.cluster.watcher = self.shadow
        self._restored: list[tuple[Task, Progress]] = []

    def dismantle(self) -> None:
        """Let go of everything; call it on one that is not used any more, before another takes its place."""
        self.state.cluster.dismantle()

    # At a start

    def restore_workers(self, records: Iterable[WorkerRecord]) -> None:
        """Take in the workers that the store knows, before any task."""
        for record in records:
            self._fleet.restore_worker(record)

    def restore_clients(self, records: Iterable[ClientRecord]) -> None:
        """Take in the sessions of the SDK that the store knows."""
        self._clients.restore(records)

    def restore_settings(self, settings: Iterable[Setting]) -> None:
        """Take in what operators have set, before any task."""
        settings = list(settings)
        self._settings.restore(settings)
        self._firing.restore(settings)

    def restore_tasks(self, records: Iterable[TaskRecord]) -> None:
        """Take in tasks that have not ended, in order of their numbers."""
        state = self.state
        for record in records:
            facts, progress = record.facts, record.progress
            spec = decode_spec(facts.spec)
            task = task_from_record(facts, progress, state.intern(terms_of(spec)))
            state.arrivals.note(facts.seq, min(state.now, state.now - (state.wall - facts.created_at)))
            if task.terms.gang is not None:
                state.gangs.come_back(task, facts)
            if task.state is TaskState.PENDING:
                self._intake.restore(task, spec)
            else:
                state.tasks[task.seq] = task
                self._intake.restore_blobs(task, spec)
                if task.chosen_id is not None:
                    state.chosen_ids[task.chosen_id] = task.seq
                self._restored.append((task, progress))
            self._intake.restore_deadline(task, spec)

    def finish_restore(self) -> None:
        """Put running attempts back into their lanes. Nothing of a restore is a change to be saved."""
        self._fleet.restore_attempts(self._restored)
        self._restored = []
        self.state.notes = TurnNotes()

    # From then on

    def apply(self, commands: Sequence[Command], *, now: float, wall: float) -> list[Effect]:
        """Carry out commands and whatever is due, and place what can be placed.

        Args:
            commands: In the order in which they arrived.
            now: Steady seconds; never less than at the call before.
            wall: Seconds since 1970; may jump.

        Returns:
            What is to be done, in the order of the duties: at most one `Save` first; nothing else may
            be done before it has succeeded.
        """
        state = self.state
        state.now, state.wall = now, wall
        for command in commands:
            self._carry_out(command)
        self._firing.follow_clock()
        for timer in state.timers.take_due(now=now, wall=wall):
            self._fire(timer)
        self._dispatch.run()
        state.forget_ended()
        state.timers.drop_unwanted(self._is_wanted)
        state.cluster.forget_idle_rooms(state.pending.groups)
        if self.shadow is not None:
            self.shadow.follow(state.pending.waiting_for_room, now=now)
        return [*state.finish_turn(), *self._wake()]

    def apply_unsaved(self, commands: Sequence[WorkerBeat], *, now: float, wall: float) -> list[Effect]:
        """Answer heartbeats while a commit is under way: changes nothing that is saved, places nothing."""
        state = self.state
        state.now, state.wall = max(now, state.now), wall
        for command in commands:
            self._fleet.beat(command)
        return [*state.finish_turn(), *self._wake()]

    def _wake(self) -> list[Effect]:
        """When to look again: at the next timer, or at once if a heartbeat during a save brought a worker back."""
        state = self.state
        if state.cluster.is_restless:
            return [WakeAt(state.now)]
        next_at = state.timers.next_at(now=state.now, wall=state.wall)
        return [] if next_at is None else [WakeAt(next_at)]

    def _carry_out(self, command: Command) -> None:
        match command:
            case ReportArrived():
                self._report(command)
            case WorkerBeat():
                self._fleet.beat(command)
            case SubmitNumbered():
                self._clients.submit(command)
            case SubmitTasks():
                self._intake.submit(command)
            case CancelTasks():
                self._intake.cancel(command)
            case RetryTask():
                self._intake.retry(command)
            case (
                SetDrained()
                | ForgetWorker()
                | SetQueue()
                | SetLimit()
                | SetReservation()
                | SetCalendar()
                | PauseCalendar()
                | RunCalendar()
            ):
                self._operate(command)
            case ObserverStalled():
                self._fleet.stalled(command)
            case Tick():
                pass
            case ClientArrived():
                self._clients.arrived(command)
            case WorkerHello() | SessionClosed() | SlotsLostArrived() | LeavingArrived():
                self._come_or_go(command)
            case _:
                assert_never(command)

    def _operate(
        self,
        command: SetDrained
        | ForgetWorker
        | SetQueue
        | SetLimit
        | SetReservation
        | SetCalendar
        | PauseCalendar
        | RunCalendar,
    ) -> None:
        """What operators ask for."""
        match command:
            case SetDrained():
                self._fleet.set_drained(command)
            case ForgetWorker():
                self._fleet.forget(command)
            case SetQueue():
                self._settings.set_queue(command)
            case SetLimit():
                self._settings.set_limit(command)
            case SetReservation():
                self._settings.set_reservation(command)
            case SetCalendar():
                self._firing.set(command)
            case PauseCalendar():
                self._firing.pause(command)
            case RunCalendar():
                self._firing.run(command)
            case _:
                assert_never(command)

    def _come_or_go(self, command: WorkerHello | SessionClosed | SlotsLostArrived | LeavingArrived) -> None:
        match command:
            case WorkerHello():
                self._fleet.hello(command)
            case SessionClosed():
                self._fleet.closed(command)
            case SlotsLostArrived():
                self._fleet.slots_lost(command)
            case LeavingArrived():
                self._fleet.leaving(command)
            case _:
                assert_never(command)

    def _report(self, command: ReportArrived) -> None:
        """Take in a report, and acknowledge it once it is on the record."""
        state = self.state
        worker = state.cluster.sessions.get(command.session)
        if worker is None:  # its channel was replaced: the same report comes again on the new one
            state.counts.reports_stale += 1
            return
        self._fleet.heard(worker)
        self._attempts.report(worker, command.report)
        state.notes.send(command.session, ReportAck(command.report.number))

    def _is_wanted(self, timer: Timer) -> bool:
        """Whether a timer may still mean something: those of tasks that have ended don't."""
        return not isinstance(timer, TaskReady | DeadlineDue) or timer.seq in self.state.tasks

    def _fire(self, timer: Timer) -> None:
        match timer:
            case TaskReady():
                self._intake.task_ready(timer)
            case DeadlineDue():
                self._intake.deadline_due(timer)
            case WorkerDue():
                self._fleet.look(timer)
            case LineOverdue():
                self._attempts.line_overdue(timer)
            case ReservationDue():
                self._settings.reservation_due(timer)
            case CalendarDue():
                self._firing.due(timer)
            case GangImpossible():
                self._intake.gang_impossible_due(timer)
            case Impossible():
                if self._intake.impossible_due(timer):
                    self._dispatch.watch_impossible(self.state.cluster.room(timer.shape, timer.queue))
            case _:
                assert_never(timer)
