"""The worker's side of the protocol: commands in, effects out.

The agent knows which attempts it was given and what has become of them, and makes sure that the
coordinator learns it: every start, end and piece of output is kept in a numbered report until
the coordinator acknowledges it, over any number of broken channels. It runs nothing itself:
whoever drives it (the worker process, a test, the simulator) owns slots and channel.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, assert_never

from rota.core.agent_commands import (
    AgentCommand,
    AgentEffect,
    BeatDue,
    ChannelLost,
    ChannelOpened,
    HangUp,
    HurryUp,
    LeaseDue,
    LeaveWished,
    MarksReported,
    MessageArrived,
    Run,
    SendUp,
    SlotQuarantined,
    SlotsReported,
    StopAttempt,
    TakeBack,
)
from rota.core.lease import Lease
from rota.core.model import AttemptKey, Cause, Offer, WorkerId
from rota.core.protocol import (
    PROTOCOL_VERSION,
    WORKER_ID_TAKEN,
    Assign,
    Assignment,
    Closing,
    Ended,
    FromCoordinator,
    FromWorker,
    GangFacts,
    Heartbeat,
    HeartbeatAck,
    Held,
    Hello,
    Leaving,
    Marks,
    OutputChunk,
    Recall,
    Refused,
    Report,
    ReportAck,
    SlotsLost,
    Started,
    Stop,
    Welcome,
)
from rota.core.reports import cut_reports

__all__ = ["MARKS_MAX", "UNACKNOWLEDGED_BYTES_MAX", "Agent"]

UNACKNOWLEDGED_BYTES_MAX: Final = 64 << 20
"""Output and results that may wait for an acknowledgement before nothing new is started."""

MARKS_MAX: Final = 1000
"""Of one message: more attempts than a person could follow. The others tell again how far they are."""


class Agent:
    """One worker's memory of what it was given and what it owes."""

    __slots__ = (
        "_cluster",
        "_doomed",
        "_gangs",
        "_holds",
        "_instance",
        "_is_leaving",
        "_is_welcome",
        "_lease",
        "_now",
        "_offer",
        "_parked",
        "_quarantine_message",
        "_quarantined",
        "_reports",
        "_unacknowledged",
        "_unacknowledged_bytes",
        "_wants_lease",
        "_worker",
        "heartbeat_s",
    )

    def __init__(self, worker: WorkerId, *, instance: str, offer: Offer) -> None:
        self._worker = worker
        self._instance = instance
        self._offer = offer
        self._cluster: str | None = None
        self._is_welcome = False
        self._is_leaving = False
        self._quarantined = 0
        self._quarantine_message = ""
        self._holds: dict[AttemptKey, Held] = {}
        self._doomed: set[AttemptKey] = set()
        self._parked: dict[AttemptKey, Assignment] = {}
        self._unacknowledged: list[tuple[Report, int]] = []
        self._unacknowledged_bytes = 0
        self._reports = 0
        self._lease = Lease()
        self._wants_lease: set[AttemptKey] = set()
        self._now = 0.0
        self._gangs: dict[AttemptKey, GangFacts] = {}
        self.heartbeat_s = 1.0

    @property
    def holds(self) -> int:
        """How many attempts it has that have not ended."""
        return len(self._holds) + len(self._doomed)

    @property
    def is_leaving(self) -> bool:
        """Whether it takes nothing new because it was told to go."""
        return self._is_leaving

    @property
    def is_done(self) -> bool:
        """Whether a leaving worker may go: it has nothing, and owes nothing."""
        return self._is_leaving and not self.holds and not self._unacknowledged

    @property
    def lease_ends_at(self) -> float | None:
        """When to say `LeaseDue`, on the steady clock; ``None`` while nothing is leased."""
        return self._lease.ends_at

    def apply(self, command: AgentCommand, *, now: float) -> list[AgentEffect]:
        """Carry out one command. ``now`` is in seconds on a steady clock, one that runs while the machine sleeps."""
        self._now = now
        effects = self._carry_out(command)
        if self._lease.ends_at is not None:
            effects += self._end_overdue()
        return effects

    def _carry_out(self, command: AgentCommand) -> list[AgentEffect]:
        match command:
            case ChannelOpened():
                self._lease.begin_anew(command.wall, now=self._now)
                return [SendUp(self._hello(command.wall))]
            case ChannelLost():
                self._is_welcome = False
                return []
            case MessageArrived():
                return self._message(command.message)
            case SlotsReported():
                return self._slots_reported(command)
            case MarksReported() | SlotQuarantined():
                return self._sent(self._remarks(command))
            case BeatDue() | LeaseDue():
                return self._beat(command) if isinstance(command, BeatDue) else []
            case LeaveWished():
                self._is_leaving = True
                effects = [*self._sent([Leaving(done=False)]), *self._take_back(list(self._holds))]
                return [*effects, *self._farewell()]
            case HurryUp():
                return self._stop(list(self._holds), Cause.PREEMPTED, grace_s=command.grace_s)
            case _:
                assert_never(command)

    # What arrives

    def _message(self, message: FromCoordinator) -> list[AgentEffect]:
        match message:
            case Assign():
                return self._assign(message)
            case ReportAck():
                return self._acknowledged(message.number)
            case Stop():
                return self._stop(message.attempts, message.cause, grace_s=message.grace_s)
            case Recall():
                return self._take_back([key for key in message.attempts if key in self._holds])
            case Welcome():
                return self._welcome(message)
            case Refused():
                return [*self._refused(message), HangUp(message.message, message.retryable)]
            case Closing():
                return [HangUp(message.message, retryable=True)]
            case HeartbeatAck():
                self._lease.answered(message.sent_at)
                return self._unpark()
            case _:
                assert_never(message)

    def _assign(self, assign: Assign) -> list[AgentEffect]:
        attempts = assign.attempts
        for gang in assign.gangs:
            self._gangs |= {(s.task, s.attempt): GangFacts(gang.id, s.rank, gang.hosts) for s in gang.seats}
        for given in attempts:
            key = (given.task, given.attempt)
            self._holds[key] = Held(given.task, given.attempt, given.lane, given.place, started=False)
        if self._is_leaving:  # sent before the coordinator knew
            return self._report([], [_returned(given) for given in attempts], [])
        self._wants_lease.update(assign.leased)
        if self._is_full() or self._doomed or not self._has_lease(assign.leased):
            self._parked.update({(given.task, given.attempt): given for given in attempts})
            return self._unpark()
        return [self._start(attempts)]

    def _has_lease(self, keys: Sequence[AttemptKey]) -> bool:
        """Whether these may start. Not on a message that was on its way for longer than the lease."""
        return not keys or self._lease.holds(self._now)

    def _start(self, attempts: list[Assignment]) -> Run:
        """Hand attempts to the slots, with what those of gangs are told."""
        if not self._gangs and not self._wants_lease:
            return Run(attempts)
        keys = [(given.task, given.attempt) for given in attempts]
        self._lease.take(key for key in keys if key in self._wants_lease)
        self._wants_lease.difference_update(keys)
        return Run(attempts, {key: self._gangs.pop(key) for key in keys if key in self._gangs})

    def _acknowledged(self, number: int) -> list[AgentEffect]:
        count = bisect_right(self._unacknowledged, number, key=lambda owed: owed[0].number)
        self._unacknowledged_bytes -= sum(size for _, size in self._unacknowledged[:count])
        del self._unacknowledged[:count]
        return [*self._unpark(), *self._farewell()]

    def _welcome(self, welcome: Welcome) -> list[AgentEffect]:
        """Stop what is not ours to run any more, then send again what is owed."""
        self.heartbeat_s = welcome.heartbeat_s
        self._lease.welcomed(lease_s=welcome.lease_s, grace_s=welcome.lease_grace_s)
        if self._cluster not in (None, welcome.cluster):
            effects = self._forget_cluster()
        else:
            effects = self._give_up(welcome.stop)
        self._cluster = welcome.cluster
        # Not before: reports must go in the order of their numbers, since one acknowledgement covers all before it.
        self._is_welcome = True
        effects += [SendUp(report) for report, _ in self._unacknowledged]
        if self._quarantined:
            effects.append(SendUp(self._slots_lost()))
        if self._is_leaving:
            effects.append(SendUp(Leaving(done=False)))
        return [*effects, *self._unpark(), *self._farewell()]

    def _refused(self, refused: Refused) -> list[AgentEffect]:
        """Where another instance has our id since we were welcome, all that we had runs elsewhere."""
        is_replaced = refused.code == WORKER_ID_TAKEN and self._cluster is not None
        return self._give_up(list(self._holds)) if is_replaced else []

    def _forget_cluster(self) -> list[AgentEffect]:
        """Another cluster answers at the old address: what the last one gave must not be told to this one."""
        effects = self._give_up([key for key in self._holds if self._runs(key)])
        for key in self._holds:
            self._lease.forget(key)
        self._gangs.clear()
        self._wants_lease.clear()
        self._holds.clear()
        self._parked.clear()
        self._unacknowledged.clear()
        self._unacknowledged_bytes = 0
        return effects

    def _give_up(self, keys: Sequence[AttemptKey]) -> list[AgentEffect]:
        """Stop attempts that are nobody's any more, or somebody else's. Of those that run nothing is told.

        New work waits until they are gone: the coordinator counts on the room that they still take, and
        in another cluster the same task numbers may come again.
        """
        doomed = [key for key in keys if self._runs(key)]
        self._doomed.update(doomed)
        for key in doomed:
            del self._holds[key]
            self._lease.forget(key)
        stops: list[AgentEffect] = [StopAttempt(key, Cause.CANCELLED, 0.0) for key in doomed]
        return stops + self._answer_for([key for key in keys if key not in self._doomed], Cause.CANCELLED)

    # What the slots tell

    def _slots_reported(self, command: SlotsReported) -> list[AgentEffect]:
        ended = [end for end in command.ended if self._runs((end.task, end.attempt))]
        output = [chunk for chunk in command.output if self._runs((chunk.task, chunk.attempt))]
        over = {(end.task, end.attempt) for end in command.ended}  # told of once, by its end
        started = [
            start for start in command.started if self._runs(key := (start.task, start.attempt)) and key not in over
        ]
        for start in started:
            held = self._holds[start.task, start.attempt]
            self._holds[start.task, start.attempt] = Held(held.task, held.attempt, held.lane, held.place, started=True)
        self._doomed -= over
        effects = self._report(started, ended, output)
        return [*effects, *self._unpark(), *self._farewell()]

    def _remarks(self, command: MarksReported | SlotQuarantined) -> list[FromWorker]:
        """What the slots say that no report holds: nobody acknowledges it."""
        if isinstance(command, SlotQuarantined):
            self._quarantined += 1
            self._quarantine_message = command.message
            return [self._slots_lost()]
        marks = [mark for mark in command.marks if self._runs((mark.task, mark.attempt))]
        return [Marks(marks[:MARKS_MAX])] if marks else []

    def _report(
        self, started: Sequence[Started], ended: Sequence[Ended], output: Sequence[OutputChunk]
    ) -> list[AgentEffect]:
        """Number what happened, keep it, and send it if there is a channel."""
        for end in ended:
            self._holds.pop((end.task, end.attempt), None)
            self._parked.pop((end.task, end.attempt), None)
            self._lease.forget((end.task, end.attempt))
            self._gangs.pop((end.task, end.attempt), None)
            self._wants_lease.discard((end.task, end.attempt))
        reports: list[FromWorker] = []
        for piece, size in cut_reports(started, ended, output):
            self._reports += 1
            report = Report(self._reports, *piece)
            self._unacknowledged.append((report, size))
            self._unacknowledged_bytes += size
            reports.append(report)
        return self._sent(reports)

    def _stop(self, keys: Sequence[AttemptKey], cause: Cause, *, grace_s: float) -> list[AgentEffect]:
        """End attempts: those that run by their slots, those that are parked or unknown by a word."""
        stops: list[AgentEffect] = [StopAttempt(key, cause, grace_s) for key in keys if self._runs(key)]
        return stops + self._answer_for([key for key in keys if not self._runs(key)], cause)

    def _take_back(self, keys: Sequence[AttemptKey]) -> list[AgentEffect]:
        """Give attempts back that have not started: the slots know of theirs, the parked ones have not."""
        asked: list[AgentEffect] = [TakeBack(given)] if (given := [key for key in keys if self._runs(key)]) else []
        return asked + self._report([], [_returned(self._parked[key]) for key in keys if key in self._parked], [])

    def _answer_for(self, keys: list[AttemptKey], cause: Cause) -> list[AgentEffect]:
        """Answer a stop for what never came to a slot, unless its end is on its way already."""
        owed = {(end.task, end.attempt) for report, _ in self._unacknowledged for end in report.ended}
        return self._report(
            [], [Ended(task, attempt, cause) for task, attempt in keys if (task, attempt) not in owed], []
        )

    # The lease

    def _beat(self, beat: BeatDue) -> list[AgentEffect]:
        if self._is_welcome:
            self._lease.asked(beat.wall, now=self._now)
        return self._sent([Heartbeat(beat.wall, beat.usage)])

    def _end_overdue(self) -> list[AgentEffect]:
        """End what must not run on without an answer of the coordinator's: it may run elsewhere soon."""
        overdue = [key for key in self._lease.take_overdue(self._now) if self._runs(key)]
        return [StopAttempt(key, Cause.WORKER_LOST, self._lease.grace_s) for key in overdue]

    # Helpers

    def _hello(self, wall: float) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION,
            worker=self._worker,
            instance=self._instance,
            offer=self._offer,
            cluster=self._cluster,
            holds=list(self._holds.values()),
            ended=[(end.task, end.attempt) for report, _ in self._unacknowledged for end in report.ended],
            sent_at=wall,
        )

    def _slots_lost(self) -> SlotsLost:
        return SlotsLost(self._quarantined, self._quarantine_message)

    def _sent(self, messages: Sequence[FromWorker]) -> list[AgentEffect]:
        return [SendUp(message) for message in messages] if self._is_welcome else []

    def _runs(self, key: AttemptKey) -> bool:
        """Whether this is an attempt of the present cluster that was handed to a slot."""
        return key in self._holds and key not in self._parked

    def _is_full(self) -> bool:
        return self._unacknowledged_bytes > UNACKNOWLEDGED_BYTES_MAX

    def _unpark(self) -> list[AgentEffect]:
        if not self._parked or self._is_full() or self._doomed:
            return []
        late = self._wants_lease if not self._lease.holds(self._now) else ()
        ready = [given for key, given in self._parked.items() if key not in late]
        for given in ready:
            del self._parked[given.task, given.attempt]
        return [self._start(ready)] if ready else []

    def _farewell(self) -> list[AgentEffect]:
        return self._sent([Leaving(done=True)]) if self.is_done else []


def _returned(given: Assignment) -> Ended:
    return Ended(given.task, given.attempt, Cause.RETURNED)
