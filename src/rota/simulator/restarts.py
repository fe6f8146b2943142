"""A restart tried beside the run: a second scheduler is made from the rows, and must be like the first.

It is made where the first has nothing in its memory that is not on the record. What both hold must be the same. Then
the workers say hello to the second as they would to a new leader, which must place nothing twice and forget nothing;
and at last its clock runs far ahead, after which nothing may be waiting for a time that has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rota.core.commands import ObserverStalled, SessionId, Tick, WorkerHello
from rota.core.config import SchedulerConfig
from rota.core.effects import Effect, Save, Send
from rota.core.model import Epoch, Reason, TaskSeq
from rota.core.protocol import PROTOCOL_VERSION, Assign, Held, Hello, Welcome
from rota.core.scheduler import Scheduler
from rota.core.state import State
from rota.core.task import Task
from rota.core.workers import Worker
from rota.simulator.promises import BrokenPromise, Promise, keeps
from rota.simulator.record import Record
from rota.simulator.stepwise import StepChecks
from rota.simulator.world import WALL_AT_START

__all__ = ["Restarts", "restored"]

WALL_SLACK_S: Final = 0.001

FAR_S: Final = 100_000.0
"""More than any delay, wait or patience."""

Standing = tuple[object, ...]


class Restarts:
    """Tries a restart wherever ``is_due`` says so."""

    def __init__(self, config: SchedulerConfig, *, is_due: Callable[[], bool]) -> None:
        self.is_due = is_due
        self._config = config

    def compare(self, first: Scheduler, record: Record) -> None:
        """Compare a scheduler with what its rows would make of it.

        Raises:
            BrokenPromise: They differ.
        """
        try:
            self._compare(first.state, record.snapshot())
        except BrokenPromise as error:
            error.add_note("This is of a restart that was tried beside the run.")
            raise

    @keeps(Promise.RECOVERY)
    def _compare(self, first: State, record: Record) -> None:
        scheduler = restored(self._config, record, like=first)
        second = scheduler.state
        steps = StepChecks(record)
        steps.loaded(second)
        _compare_tasks(first, second)
        _compare_use(first, second)
        self._meet(scheduler, first, steps)
        self._wait(scheduler, steps)
        scheduler.dismantle()

    @staticmethod
    def _meet(scheduler: Scheduler, first: State, steps: StepChecks) -> None:
        """Let those say hello who are there: what they have goes on."""
        state = scheduler.state
        hellos = [_hello(worker) for worker in first.cluster.workers.values() if worker.session is not None]
        before = {seq: _seat(task) for seq, task in state.tasks.items() if task.run is not None}
        effects = scheduler.apply(hellos, now=state.now, wall=state.wall)
        _follow(steps, state, effects)
        for seq, seat in before.items():
            found = _seat(state.tasks[seq]) if seq in state.tasks else None
            assert found == seat, f"task {seq} lost its place at a hello"
        told = [effect.message for effect in effects if isinstance(effect, Send)]
        assert not any(message.stop for message in told if isinstance(message, Welcome)), "somebody is to stop work"
        again = {given.task for message in told if isinstance(message, Assign) for given in message.attempts}
        assert again.isdisjoint(before), f"{again & before.keys()} are given out again"

    @staticmethod
    def _wait(scheduler: Scheduler, steps: StepChecks) -> None:
        """Let all time pass: what waited for a time has come."""
        state = scheduler.state
        # Twice: what the first look brings about may have a wait of its own.
        for _ in range(3):
            now, wall = state.now + FAR_S, state.wall + FAR_S
            _follow(steps, state, scheduler.apply([ObserverStalled(0.0), Tick()], now=now, wall=wall))
        late = [task for task in state.tasks.values() if task.hold not in (None, Reason.GANG)]
        assert not late, f"{late[0].id} waits for {late[0].hold} for ever"
        late = [task for task in state.tasks.values() if task.deadline_at is not None and task.run is None]
        assert not late, f"the deadline of {late[0].id} is forgotten"


def restored(config: SchedulerConfig, record: Record, *, like: State) -> Scheduler:
    """Make a scheduler from rows, at the time and in the reign of another."""
    scheduler = Scheduler(
        config, cluster_id="cluster-1", epoch=Epoch(like.epoch), next_seq=like.next_seq, now=like.now, wall=like.wall
    )
    scheduler.restore_settings(record.settings[key] for key in sorted(record.settings))
    scheduler.restore_workers(record.workers[name] for name in sorted(record.workers))
    scheduler.restore_clients(record.clients[name] for name in sorted(record.clients))
    scheduler.restore_tasks(record.unfinished())
    scheduler.finish_restore()
    return scheduler


def _compare_tasks(first: State, second: State) -> None:
    is_wall_right = abs(first.wall - first.now - WALL_AT_START) < WALL_SLACK_S
    assert first.tasks.keys() == second.tasks.keys(), sorted(first.tasks.keys() ^ second.tasks.keys())
    for seq, task in first.tasks.items():
        mine, theirs = _standing(task), _standing(second.tasks[seq])
        assert mine == theirs, f"task {seq} is {theirs} after a restart, not {mine}"
        hold = second.tasks[seq].hold
        assert _waits_alike(task.hold, hold, is_wall_right=is_wall_right), (
            f"task {seq} waits for {hold} after a restart, not {task.hold}"
        )


def _compare_use(first: State, second: State) -> None:
    """Lanes with their lines, what is left of workers, queues and limits."""
    assert first.cluster.workers.keys() == second.cluster.workers.keys()
    for name, worker in first.cluster.workers.items():
        _compare_worker(worker, second.cluster.workers[name])
    queues = {queue.name: queue for queue in second.queues.all()}
    for queue in first.queues.all():
        if queue.name in queues:
            other = queues[queue.name]
            assert queue.settings == other.settings, f"{queue.name} has {other.settings}, not {queue.settings}"
            assert queue.running == other.running, f"{queue.name} runs {other.running}, not {queue.running}"
    limits = {limit.name: (limit.used, limit.size) for limit in second.limits.all() if limit.used or limit.size}
    assert limits == {limit.name: (limit.used, limit.size) for limit in first.limits.all() if limit.used or limit.size}
    assert first.reservations.all() == second.reservations.all()
    assert _gangs(first) == _gangs(second)


def _compare_worker(first: Worker, second: Worker) -> None:
    assert _lanes(first) == _lanes(second), f"lanes of {first.id}"
    assert first.ledger.free == second.ledger.free, f"what is free on {first.id}"
    assert first.drained == second.drained, f"whether {first.id} is drained"


def _waits_alike(first: Reason | None, second: Reason | None, *, is_wall_right: bool) -> bool:
    """A restart knows by the wall clock how long to wait, and of what exclusive tasks may still do less than all."""
    if first is second or Reason.EXCLUSIVE in (first, second):
        return True
    by_wall = {None, Reason.START_TIME, Reason.GANG} | (set() if is_wall_right else {Reason.BACKOFF})
    return {first, second} <= by_wall


def _standing(task: Task) -> Standing:
    return (task.state, task.attempt, task.retries_used, task.losses_used, task.wish, task.deadline_at, _seat(task))


def _seat(task: Task) -> Standing:
    run = task.run
    return () if run is None else (run.lane.worker.id, run.lane.id, run.place)


def _lanes(worker: Worker) -> dict[int, Standing]:
    return {
        lane.id: (lane.devices, lane.room.shape, lane.room.queue.name, *(task.seq for task in lane.line))
        for lane in worker.lanes.values()
    }


def _gangs(state: State) -> dict[str, tuple[list[TaskSeq], int]]:
    return {name: (sorted(gang.members), gang.active) for name, gang in state.gangs.by_name.items()}


def _hello(worker: Worker) -> WorkerHello:
    assert worker.session is not None
    holds = [
        Held(task.seq, task.attempt, lane.id, task.run.place if task.run else 0, started=index == 0)
        for lane in worker.lanes.values()
        for index, task in enumerate(lane.line)
    ]
    return WorkerHello(
        SessionId(worker.session),
        Hello(
            version=PROTOCOL_VERSION,
            worker=worker.id,
            instance=worker.instance,
            offer=worker.offer,
            cluster="cluster-1",
            holds=holds,
            ended=[],
            sent_at=0.0,
        ),
    )


def _follow(steps: StepChecks, state: State, effects: list[Effect]) -> None:
    changes = next((effect.changes for effect in effects if isinstance(effect, Save)), None)
    steps.changed(state, changes)
    steps.check_everything(state)
