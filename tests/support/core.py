"""A core under test: two clocks that a test moves, a record that takes every save, and builders for commands.

After every step the state checks itself, and the record refuses what a store would refuse: an attempt
number that does not grow, a second end, a task that is written twice in one turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from rota.core.calendars import Calendar, Entry
from rota.core.changes import Changes
from rota.core.commands import (
    CancelTasks,
    Command,
    Draft,
    ForgetWorker,
    LeavingArrived,
    PauseCalendar,
    ReplyTo,
    ReportArrived,
    RetryTask,
    RunCalendar,
    SessionClosed,
    SessionId,
    SetCalendar,
    SetDrained,
    SetLimit,
    SetQueue,
    SetReservation,
    SubmitTasks,
    Tick,
    WorkerBeat,
    WorkerHello,
)
from rota.core.config import SchedulerConfig
from rota.core.drafts import draft_of
from rota.core.effects import Accepted, Answer, Effect, Notice, Reply, Save, Send, WakeAt
from rota.core.invariants import check_invariants
from rota.core.model import (
    AttemptKey,
    Cause,
    Epoch,
    Gpu,
    Offer,
    Progress,
    TaskRecord,
    TaskSeq,
    WorkerId,
)
from rota.core.placement.policies import POLICIES, PolicyFactory
from rota.core.protocol import (
    PROTOCOL_VERSION,
    Assign,
    Assignment,
    Ended,
    Heartbeat,
    Held,
    Hello,
    OutputChunk,
    Recall,
    Report,
    Started,
    Stop,
    Usage,
    Welcome,
)
from rota.core.queues import QueueSettings
from rota.core.requests import parse_requests
from rota.core.reservations import Reservation
from rota.core.scheduler import Scheduler
from rota.core.state import State
from rota.core.task import Task
from rota.simulator.record import Record

__all__ = [
    "CLUSTER",
    "EPOCH_WALL",
    "QUIET",
    "Core",
    "Record",
    "assignments",
    "drafts_of",
    "key",
    "make_offer",
    "messages",
    "notices",
    "only",
    "recalled",
    "saved",
    "stopped",
]

CLUSTER: Final = "cluster-1"

EPOCH_WALL: Final = 1_800_000_000.0
"""What the wall clock shows when the steady one shows 0."""

T = TypeVar("T")

QUIET: Final = SchedulerConfig(
    heartbeat_s=1e6, suspicious_after_s=2e6, offline_after_s=3e6, forget_after_s=1e9, grace_s=0.0
)
"""Workers need no heartbeats: for tests that are about something else."""


class Core:
    """A scheduler, driven as a coordinator drives it, without a thread or a clock of its own."""

    def __init__(
        self,
        *,
        config: SchedulerConfig = QUIET,
        record: Record | None = None,
        policies: Mapping[str, PolicyFactory] = POLICIES,
        now: float = 0.0,
        wall: float | None = None,
        epoch: int = 1,
    ) -> None:
        self.config = config
        self.record = record or Record()
        self.now = now
        self.wall_offset = EPOCH_WALL if wall is None else wall - now
        self.epoch = epoch
        self.wake_at: float | None = now
        self.sessions: dict[str, SessionId] = {}
        self._numbers = 0
        self._reports: dict[str, int] = {}
        self.scheduler = Scheduler(
            config,
            cluster_id=CLUSTER,
            epoch=Epoch(epoch),
            next_seq=TaskSeq(max(self.record.facts, default=0) + 1),
            now=self.now,
            wall=self.wall,
            policies=policies,
        )
        self.scheduler.restore_settings(self.record.settings[key] for key in sorted(self.record.settings))
        self.scheduler.restore_workers(self.record.workers[name] for name in sorted(self.record.workers))
        self.scheduler.restore_clients(self.record.clients[name] for name in sorted(self.record.clients))
        self.scheduler.restore_tasks(self.record.unfinished())
        self.scheduler.finish_restore()
        check_invariants(self.state)

    @property
    def state(self) -> State:
        """The state inside, for looking at."""
        return self.scheduler.state

    @property
    def wall(self) -> float:
        return self.now + self.wall_offset

    def restarted(self, *, after_s: float = 0.0) -> Core:
        """A new coordinator on the same record, as after a kill -9."""
        return Core(
            config=self.config,
            record=self.record,
            now=self.now + after_s,
            wall=self.wall + after_s,
            epoch=self.epoch + 1,
        )

    # Driving

    def do(self, *commands: Command) -> list[Effect]:
        """Apply commands now, save what they changed, and return all effects."""
        effects = self.scheduler.apply(commands, now=self.now, wall=self.wall)
        check_invariants(self.state)
        assert sum(isinstance(effect, Save) for effect in effects) <= 1
        assert not any(isinstance(effect, Save) for effect in effects[1:])
        assert sum(isinstance(effect, WakeAt) for effect in effects) <= 1
        for effect in effects:
            if isinstance(effect, Save):
                assert not effect.changes.is_empty()
                self.record.take(effect.changes)
        self.wake_at = next((effect.at for effect in effects if isinstance(effect, WakeAt)), None)
        return effects

    def pass_time(self, seconds: float) -> list[Effect]:
        """Let time go by, waking the core when it asked for it and never else."""
        until = self.now + seconds
        effects: list[Effect] = []
        while self.wake_at is not None and self.wake_at <= until:
            self.now = max(self.now, self.wake_at)
            effects += self.do(Tick())
        self.now = until
        return effects

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self.wall_offset += seconds

    # Users

    def submit(self, count: int = 1, **fields: Any) -> list[TaskSeq]:
        """Submit equal tasks, described as in JSON; return their numbers."""
        return [record.facts.seq for record in self.accepted(self.submit_drafts(drafts_of(count, self.wall, **fields)))]

    def submit_and_see(self, **fields: Any) -> list[Effect]:
        """Submit one task, described as in JSON; return all effects."""
        return self.submit_drafts(drafts_of(1, self.wall, **fields))

    def submit_drafts(self, drafts: list[Draft]) -> list[Effect]:
        """Submit and return the effects."""
        return self.do(SubmitTasks(drafts, self._next_number()))

    def submit_drafts_of(self, all_fields: Sequence[dict[str, Any]]) -> list[Effect]:
        """Submit tasks that differ, in one request; return the effects."""
        return self.submit_drafts([draft for fields in all_fields for draft in drafts_of(1, self.wall, **fields)])

    def accepted(self, effects: Sequence[Effect]) -> list[TaskRecord]:
        """The tasks of the only reply, which must be an acceptance."""
        answer = self.answer(effects)
        assert isinstance(answer, Accepted)
        return answer.tasks

    def answer(self, effects: Sequence[Effect]) -> Answer:
        """The only reply."""
        return only(effect for effect in effects if isinstance(effect, Reply)).answer

    def cancel(self, *seqs: TaskSeq) -> list[Effect]:
        return self.do(CancelTasks(list(seqs), self._next_number()))

    def retry(self, seq: TaskSeq) -> list[Effect]:
        """Retry a task as the record has it."""
        return self.do(self.retry_command(seq))

    def retry_command(self, seq: TaskSeq) -> RetryTask:
        return RetryTask(self.record.task(seq), self._next_number(), self.record.mates(seq))

    def set_drained(self, worker: str, *, drained: bool) -> list[Effect]:
        return self.do(SetDrained(WorkerId(worker), drained, self._next_number()))

    def forget(self, worker: str) -> list[Effect]:
        return self.do(ForgetWorker(WorkerId(worker), self._next_number()))

    def set_queue(self, name: str, **settings: Any) -> list[Effect]:
        """Set a queue; without settings, forget what was set."""
        return self.do(SetQueue(name, QueueSettings(**settings) if settings else None, self._next_number()))

    def reserve(self, name: str, *, starts_in_s: float = 0.0, lasts_s: float = 3600.0, **fields: Any) -> list[Effect]:
        """Reserve, from now on unless it is said when."""
        at = self.wall + starts_in_s
        reservation = Reservation(start_at=at, end_at=at + lasts_s, **fields)
        return self.do(SetReservation(name, reservation, self._next_number()))

    def end_reservation(self, name: str) -> list[Effect]:
        return self.do(SetReservation(name, None, self._next_number()))

    def set_limit(self, name: str, size: int | None) -> list[Effect]:
        return self.do(SetLimit(name, size, self._next_number()))

    def set_calendar(
        self,
        expression: str,
        *,
        name: str = "c1",
        zone: str = "UTC",
        replaces: bool = False,
        keeps_pause: bool = False,
        task: dict[str, Any] | None = None,
        **fields: Any,
    ) -> list[Effect]:
        """Add a calendar that runs ``true``, unless a task is described as in JSON."""
        requests, _ = parse_requests(json.dumps(task or {"command": ["true"]}).encode(), tasks_max=1)
        calendar = Calendar(expression=expression, zone=zone, task=requests[0], created_at=self.wall, **fields)
        return self.do(SetCalendar(name, calendar, self._next_number(), replaces, keeps_pause))

    def remove_calendar(self, name: str = "c1") -> list[Effect]:
        return self.do(SetCalendar(name, None, self._next_number()))

    def pause_calendar(self, name: str = "c1", *, paused: bool = True) -> list[Effect]:
        return self.do(PauseCalendar(name, paused, self._next_number()))

    def run_calendar(self, name: str = "c1") -> list[Effect]:
        return self.do(RunCalendar(name, self._next_number()))

    def calendar(self, name: str = "c1") -> Entry:
        """A calendar as the core holds it."""
        entry = self.state.calendars.find(name)
        assert entry is not None
        return entry

    # Workers

    def hello(
        self,
        worker: str = "w1",
        *,
        instance: str = "i1",
        holds: Sequence[Held] = (),
        ended: Sequence[AttemptKey] = (),
        cluster: str | None = CLUSTER,
        version: int = PROTOCOL_VERSION,
        clock_ahead_s: float = 0.0,
        **offer: Any,
    ) -> list[Effect]:
        """A worker opens a channel. If it is let in, this is its channel from now on."""
        session = SessionId(self._next_number())
        said = Hello(
            version,
            WorkerId(worker),
            instance,
            make_offer(**offer),
            cluster,
            list(holds),
            list(ended),
            self.wall + clock_ahead_s,
        )
        effects = self.do(WorkerHello(session, said))
        if messages(effects, Welcome, session):
            self.sessions[worker] = session
        return effects

    def beat(self, worker: str = "w1", *, clock_ahead_s: float = 0.0) -> list[Effect]:
        return self.do(WorkerBeat(self.sessions[worker], Heartbeat(self.wall + clock_ahead_s, Usage())))

    def close(self, worker: str = "w1") -> list[Effect]:
        return self.do(SessionClosed(self.sessions[worker]))

    def leave(self, worker: str = "w1", *, done: bool = False) -> list[Effect]:
        return self.do(LeavingArrived(self.sessions[worker], done))

    def report(
        self,
        worker: str = "w1",
        *,
        started: Iterable[AttemptKey] = (),
        ended: Iterable[Ended] = (),
        output: Iterable[OutputChunk] = (),
        session: SessionId | None = None,
    ) -> list[Effect]:
        """A worker reports; starts are now."""
        number = self._reports[worker] = self._reports.get(worker, 0) + 1
        starts = [Started(task, attempt, self.wall) for task, attempt in started]
        report = Report(number, starts, list(ended), list(output))
        return self.do(ReportArrived(self.sessions[worker] if session is None else session, report))

    def start(self, *seqs: TaskSeq) -> list[Effect]:
        """Let the workers that have these tasks report their starts."""
        effects = []
        for seq in seqs:
            effects += self.report(self.worker_of(seq), started=[self.key_of(seq)])
        return effects

    def end_together(self, *seqs: TaskSeq, then: Sequence[Command] = ()) -> list[Effect]:
        """Let tasks end well on their workers, and other things happen, all in one turn."""
        ends = dict.fromkeys(self.worker_of(seq) for seq in seqs)
        reports: list[Command] = []
        for worker in ends:
            number = self._reports[worker] = self._reports.get(worker, 0) + 1
            keys = [self.key_of(seq) for seq in seqs if self.worker_of(seq) == worker]
            ended = [Ended(task, attempt, None, run_s=10.0) for task, attempt in keys]
            reports.append(ReportArrived(self.sessions[worker], Report(number, [], ended, [])))
        return self.do(*reports, *then)

    def end(self, seq: TaskSeq, cause: Cause | str | None = None, **fields: Any) -> list[Effect]:
        """Let the worker that has a task report its end, well unless a cause is given.

        It took 10 s unless ``run_s`` says less: too long for others to stand in line behind its kind.
        """
        task, attempt = self.key_of(seq)
        fields.setdefault("run_s", 10.0)
        return self.report(
            self.worker_of(seq), ended=[Ended(task, attempt, None if cause is None else Cause(cause), **fields)]
        )

    # Looking

    def task(self, seq: TaskSeq) -> Task:
        """A task that has not ended, as the core holds it."""
        return self.state.tasks[seq]

    def progress(self, seq: TaskSeq) -> Progress:
        """A task as it is on the record."""
        return self.record.progress[seq]

    def states(self, seqs: Iterable[TaskSeq]) -> list[str]:
        return [self.progress(seq).state.word for seq in seqs]

    def key_of(self, seq: TaskSeq) -> AttemptKey:
        return seq, self.task(seq).attempt

    def worker_of(self, seq: TaskSeq) -> str:
        run = self.task(seq).run
        assert run is not None, f"task {seq} is {self.task(seq).state.word}"
        return run.lane.worker.id

    def workers_of(self, seqs: Iterable[TaskSeq]) -> list[str]:
        return [self.worker_of(seq) for seq in seqs]

    def held(self, seq: TaskSeq, *, started: bool = False) -> Held:
        """A task as its worker says that it has it."""
        run = self.task(seq).run
        assert run is not None
        return Held(seq, self.task(seq).attempt, run.lane.id, run.place, started)

    def _next_number(self) -> ReplyTo:
        self._numbers += 1
        return ReplyTo(self._numbers)


def drafts_of(count: int, wall: float, **fields: Any) -> list[Draft]:
    """Drafts of equal tasks, read from JSON as at the edge; they run ``true`` unless said."""
    described = (
        fields if {"command", "shell", "code", "data", "image"} & fields.keys() else {"command": ["true"], **fields}
    )
    requests, _ = parse_requests(json.dumps([described] * count).encode(), tasks_max=count)
    return [draft_of(request, accepted_at=wall) for request in requests]


def make_offer(
    *,
    cpu: int = 4000,
    memory: int = 4096,
    gpus: Sequence[int] = (),
    tags: Iterable[str] = (),
    **more: Any,
) -> Offer:
    """What a worker offers; ``gpus`` are the MiB of each card."""
    amounts = {"cpu": cpu, "memory": memory, **more.pop("resources", {})}
    cards = tuple(Gpu(memory_mib) for memory_mib in gpus)
    return Offer(tuple(sorted(amounts.items())), frozenset(tags), gpus=cards, **more)


def key(given: Assignment) -> AttemptKey:
    """The attempt that an assignment is about."""
    return given.task, given.attempt


def messages(effects: Iterable[Effect], kind: type[T], session: SessionId | None = None) -> list[T]:
    """The messages of one kind that are to be sent, on one session or on any."""
    return [
        effect.message
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, kind) and session in (None, effect.session)
    ]


def assignments(effects: Iterable[Effect]) -> list[Assignment]:
    """All that workers are told to run, in order."""
    return [given for message in messages(effects, Assign) for given in message.attempts]


def stopped(effects: Iterable[Effect]) -> list[AttemptKey]:
    """All that workers are told to end."""
    return [stop for message in messages(effects, Stop) for stop in message.attempts]


def recalled(effects: Iterable[Effect]) -> list[AttemptKey]:
    """All that workers are asked to hand back."""
    return [asked for message in messages(effects, Recall) for asked in message.attempts]


def notices(effects: Iterable[Effect]) -> list[str]:
    """The names of what operators are told."""
    return [effect.event for effect in effects if isinstance(effect, Notice)]


def saved(effects: Sequence[Effect]) -> Changes:
    """What a turn saves; empty if nothing."""
    first = effects[0] if effects else None
    return first.changes if isinstance(first, Save) else Changes()


def only(things: Iterable[T]) -> T:
    """The one thing there is."""
    [thing] = things
    return thing
