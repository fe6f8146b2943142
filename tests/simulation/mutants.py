"""Deliberate mistakes in core, turn and agent, to show that the checks of a run can fail.

Each says what it would do to users and which promise is seen to break. ``docs/invariants.md`` has the same table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from rota.core import attempts, scheduler
from rota.core.agent import Agent
from rota.core.attempts import Attempts
from rota.core.changes import Changes
from rota.core.cluster import Cluster, Room
from rota.core.effects import Effect, Reply, Send
from rota.core.exclusive import ExclusiveWaits
from rota.core.fleet import Fleet
from rota.core.gangs import Gang
from rota.core.intake import Intake
from rota.core.lease import Lease
from rota.core.lifecycle import Next, after_attempt
from rota.core.limits import Limits
from rota.core.model import Cause, Progress, TaskState, WorkerState
from rota.core.ordering import Arrivals, FairOrdering, PriorityOrdering
from rota.core.preemption import Preemption
from rota.core.protocol import Assign, Ended, ReportAck
from rota.core.queues import Queue
from rota.core.resources import Devices
from rota.core.settings import Settings
from rota.core.task import Task, task_from_record
from rota.core.turn import Turn
from rota.core.workers import Lane, Worker
from rota.simulator.store import ModelStore

__all__ = ["MUTANTS", "Mutant"]

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Attributes:
        name: What is done wrong.
        harm: What users would see of it.
        caught_by: The number of the promise that is seen to break first.
        seeds: Within how many seeds.
        make: Makes the mistake.
        options: Of the runs, where they are not the small scenario as it is drawn.
    """

    name: str
    harm: str
    caught_by: str
    seeds: int
    make: Callable[[Patch], None] = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict)


MUTANTS: Final[list[Mutant]] = []

CUT: Final = frozenset({"cut off for long"})


def mutant(name: str, *, harm: str, caught_by: str, seeds: int, **options: Any) -> Callable[..., Callable[..., None]]:
    """Take a mistake into the list."""

    def add(make: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS.append(Mutant(name, harm, caught_by, seeds, make, options))
        return make

    return add


# The turn


def do_early(patch: Patch, wanted: Callable[[Effect], bool]) -> None:
    """Carry some effects out before the changes of their turn are saved."""
    begin = Turn.begin

    def begin_hastily(turn: Turn, commands: Any, *, now: float, wall: float) -> Changes | None:
        changes = begin(turn, commands, now=now, wall=wall)
        if changes is not None and turn._saving is not None:
            early = [effect for effect in turn._saving if wanted(effect)]
            turn._saving = [effect for effect in turn._saving if not wanted(effect)]
            turn._perform(early)
        return changes

    patch.setattr(Turn, "begin", begin_hastily)


@mutant(
    "a reply goes out before the commit",
    harm="a task that was accepted is gone after a crash",
    caught_by="I2",
    seeds=1,
)
def reply_early(patch: Patch) -> None:
    do_early(patch, lambda effect: isinstance(effect, Reply))


@mutant(
    "an assignment goes out before the commit",
    harm="after a crash a task runs of which nobody knows, and runs again",
    caught_by="I2",
    seeds=1,
)
def assign_early(patch: Patch) -> None:
    do_early(patch, lambda effect: isinstance(effect, Send) and isinstance(effect.message, Assign))


@mutant(
    "a report is acknowledged before the commit",
    harm="a result is lost in a crash, and the task waits for ever",
    caught_by="I34",
    seeds=1,
)
def acknowledge_early(patch: Patch) -> None:
    do_early(patch, lambda effect: isinstance(effect, Send) and isinstance(effect.message, ReportAck))


# Ends


@mutant(
    "a loss is not charged",
    harm="a task that kills its workers goes through all of them",
    caught_by="I17",
    seeds=20,
)
def forget_losses(patch: Patch) -> None:
    original = after_attempt

    def forgetful(task: Task, cause: Cause | None, rng: Any) -> Next:
        is_free = cause is Cause.WORKER_LOST and task.wish is None
        return Next(TaskState.PENDING, cause) if is_free else original(task, cause, rng)

    patch.setattr(attempts, "after_attempt", forgetful)


@mutant(
    "the result of an old attempt is taken for that of the current one",
    harm="a task counts as done with a result from a machine that was given up",
    caught_by="I16",
    seeds=60,
    faults=CUT,
)
def accept_stale(patch: Patch) -> None:
    def find_any(self: Attempts, worker: Worker, seq: Any, attempt: int) -> Task | None:
        task = self._state.tasks.get(seq)
        return None if task is None or task.run is None else task

    patch.setattr(Attempts, "_find_current", find_any)


# Who gets what


def believe(patch: Patch, name: str, *, is_really: object) -> None:
    """Let who places take something of every worker for what it should be."""
    fits_now = Room.fits_now

    def fits_in_belief(self: Room, worker: Worker) -> bool:
        before = getattr(worker, name)
        setattr(worker, name, is_really)
        try:
            return fits_now(self, worker)
        finally:
            setattr(worker, name, before)

    patch.setattr(Room, "fits_now", fits_in_belief)


@mutant(
    "weights of queues are ignored",
    harm="a team that pays for half of the cluster gets a third",
    caught_by="I42",
    seeds=2,
    steady="shares",
)
def weigh_alike(patch: Patch) -> None:
    rank = FairOrdering.rank

    def rank_without_weights(self: FairOrdering, stream: Any, head: Any) -> Any:
        share, inner, last = rank(self, stream, head)
        return share * self._queues.get(stream.queue).settings.weight, inner, last

    patch.setattr(FairOrdering, "rank", rank_without_weights)


@mutant(
    "drained workers are given work",
    harm="a machine that somebody wants to switch off never gets empty",
    caught_by="I28",
    seeds=20,
)
def ignore_drains(patch: Patch) -> None:
    believe(patch, "drained", is_really=False)


@mutant(
    "silent workers are given work",
    harm="tasks wait for a machine that is gone, each until it is given up",
    caught_by="I28",
    seeds=20,
)
def trust_the_silent(patch: Patch) -> None:
    believe(patch, "state", is_really=WorkerState.ONLINE)


@mutant(
    "a lane is given back twice",
    harm="workers get more than they can hold, and kill tasks for want of memory",
    caught_by="I24",
    seeds=1,
)
def release_twice(patch: Patch) -> None:
    close_lane = Cluster.close_lane

    def close_twice(self: Cluster, lane: Lane, *, in_vain: bool = False) -> None:
        close_lane(self, lane, in_vain=in_vain)
        lane.worker.ledger.release(lane.room.plain)

    patch.setattr(Cluster, "close_lane", close_twice)


@mutant(
    "cards are not taken",
    harm="two tasks share a GPU that each was promised for itself",
    caught_by="I24",
    seeds=20,
)
def share_cards(patch: Patch) -> None:
    patch.setattr(Devices, "take", lambda *_: None)
    patch.setattr(Devices, "give_back", lambda *_: None)


@mutant(
    "the lowest priority goes first",
    harm="urgent tasks wait behind everything else",
    caught_by="I41",
    seeds=40,
)
def turn_priorities_round(patch: Patch) -> None:
    patch.setattr(PriorityOrdering, "rank", lambda _, stream, head: (float(stream.priority), 0.0, head))


@mutant(
    "ageing is ignored",
    harm="a task of low priority waits for as long as others come",
    caught_by="I41",
    seeds=2,
    steady="starvation",
)
def stay_young(patch: Patch) -> None:
    patch.setattr(PriorityOrdering, "rank", lambda _, stream, head: (-float(stream.priority), 0.0, head))


@mutant(
    "all tasks count as having come at once",
    harm="a task of low priority waits for as long as others come",
    caught_by="I27",
    seeds=4,
    steady="starvation",
)
def forget_arrivals(patch: Patch) -> None:
    patch.setattr(Arrivals, "at", lambda *_: 0.0)


@mutant(
    "whoever asks for preemption gets it",
    harm="important tasks are stopped for unimportant ones",
    caught_by="I25",
    seeds=60,
)
def preempt_anybody(patch: Patch) -> None:
    patch.setattr(Preemption, "_may_take", lambda *_: True)


@mutant(
    "a lost worker keeps what it held of limits",
    harm="licences run out, one by one, until nothing starts any more",
    caught_by="I26",
    seeds=60,
)
def leak_limits(patch: Patch) -> None:
    lose = Attempts.lose

    def leak(self: Attempts, lane: Lane, message: str) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Limits, "give_back", lambda *_: [])
            lose(self, lane, message)

    patch.setattr(Attempts, "lose", leak)


@mutant(
    "the cap of a queue is looked at for its first task alone",
    harm="one team takes the whole cluster",
    caught_by="I26",
    seeds=60,
)
def forget_caps(patch: Patch) -> None:
    find_block = Queue.find_block

    def find_no_quota(self: Queue, need: Any) -> Any:
        return None if self.running else find_block(self, need)

    patch.setattr(Queue, "find_block", find_no_quota)


@mutant(
    "a gang counts as complete without its last member",
    harm="some members of a job run and wait for one that never comes",
    caught_by="I43",
    seeds=20,
)
def begin_without_the_last(patch: Patch) -> None:
    patch.setattr(Gang, "is_complete", property(lambda gang: len(gang.ready) >= max(1, gang.size - 1)))


@mutant(
    "a line is never asked back from behind a slow task",
    harm="short tasks wait for hours behind one that was thought to be short",
    caught_by="I44",
    seeds=60,
)
def leave_lines(patch: Patch) -> None:
    patch.setattr(Attempts, "line_overdue", lambda *_: None)


# Exclusive tasks

FAR: Final = {"exclusive": True, "name": "endless", "deadline": 30, "resources": {"cpu": 20}, "tags": []}


@mutant(
    "the next attempt of an exclusive task does not wait",
    harm="two of something that must be one write at once",
    caught_by="I23",
    seeds=60,
    faults=CUT,
    favourite=FAR,
)
def hurry(patch: Patch) -> None:
    patch.setattr(ExclusiveWaits, "may_run_until", lambda *_: -math.inf)


@mutant(
    "a worker out of reach forgets its lease",
    harm="two of something that must be one write at once",
    caught_by="I23",
    seeds=60,
    faults=CUT,
    favourite=FAR,
)
def forget_the_lease(patch: Patch) -> None:
    patch.setattr(Lease, "ends_at", None)


# Restarts


@mutant(
    "a cancel is forgotten by a restart",
    harm="a task that was cancelled runs to its end",
    caught_by="I20",
    seeds=60,
)
def forget_wishes(patch: Patch) -> None:
    def without_wish(facts: Any, progress: Progress, terms: Any) -> Task:
        task = task_from_record(facts, progress, terms)
        task.wish = None
        return task

    patch.setattr(scheduler, "task_from_record", without_wish)


@mutant(
    "timers are lost in a restart",
    harm="a task that waited for its next try waits for ever",
    caught_by="I4",
    seeds=60,
)
def forget_timers(patch: Patch) -> None:
    restore = Intake.restore

    def restore_without_timers(self: Intake, task: Task, spec: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self._state.timers, "at", lambda *_: None)
            restore(self, task, spec)

    patch.setattr(Intake, "restore", restore_without_timers)


@mutant(
    "a setting that was set and removed at once stays on the record",
    harm="a queue is paused again after a restart, and nobody has done it",
    caught_by="I4",
    seeds=60,
)
def keep_settings(patch: Patch) -> None:
    def forget_half(self: Settings, kind: str, name: str) -> None:
        self._state.notes.changes.settings_gone.append((kind, name))

    patch.setattr(Settings, "_drop", forget_half)


@mutant(
    "an epoch is given to two leaders",
    harm="one that was thought dead writes over what its successor has decided",
    caught_by="I8",
    seeds=20,
)
def reuse_epochs(patch: Patch) -> None:
    campaign = ModelStore.campaign

    def campaign_again(self: ModelStore, candidate: str) -> Any:
        self._epoch = min(self._epoch, 1)
        return campaign(self, candidate)

    patch.setattr(ModelStore, "campaign", campaign_again)


@mutant(
    "what never reached a worker is not given to another",
    harm="a task that was on its way when a link broke waits for ever",
    caught_by="I19",
    seeds=60,
)
def wait_for_the_lost(patch: Patch) -> None:
    patch.setattr(Fleet, "_return", lambda *_: None)


# The agent


@mutant(
    "a worker hands back what is asked for and keeps it in its line as well",
    harm="tasks run twice",
    caught_by="I14",
    seeds=20,
)
def keep_what_is_returned(patch: Patch) -> None:
    def say_returned(self: Agent, keys: Any) -> Any:
        given = [key for key in keys if not self._holds[key].started]
        return self._report([], [Ended(task, attempt, Cause.RETURNED) for task, attempt in given], [])

    patch.setattr(Agent, "_take_back", say_returned)


@mutant(
    "a worker forgets on a new link what was not acknowledged on the old one",
    harm="results are lost, though the machine that has them lives",
    caught_by="I34",
    seeds=20,
)
def forget_reports(patch: Patch) -> None:
    welcome = Agent._welcome

    def welcome_and_forget(self: Agent, message: Any) -> Any:
        self._unacknowledged.clear()
        return welcome(self, message)

    patch.setattr(Agent, "_welcome", welcome_and_forget)


@mutant(
    "a worker forgets attempts that it has set aside",
    harm="a task is assigned and never starts",
    caught_by="I19",
    seeds=60,
    faults=CUT,
    favourite={"name": "long"},
)
def forget_the_parked(patch: Patch) -> None:
    unpark = Agent._unpark

    def unpark_nothing(self: Agent) -> Any:
        unpark(self)
        return []

    patch.setattr(Agent, "_unpark", unpark_nothing)


def names(mutants: Iterable[Mutant]) -> list[str]:
    """What they are called, for the ids of tests."""
    return [each.name for each in mutants]
