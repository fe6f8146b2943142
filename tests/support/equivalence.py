"""Whether two cores know the same: what a restart rebuilds against what was there before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rota.core.model import Reason, TaskSeq, TaskState
from rota.core.state import State
from rota.core.task import Task
from rota.core.workers import Worker
from tests.support.core import Core

__all__ = ["assert_equivalent"]


def assert_equivalent(before: Core, after: Core, *, clocks_agree: bool = True) -> None:
    """Compare what must survive a restart: tasks, their order, attempts in their lanes, reservations, workers.

    What waits for a duration may be over early, or anew, where the wall clock jumped (not ``clocks_agree``).
    """
    assert _tasks(before.state) == _tasks(after.state)
    assert _gangs(before.state) == _gangs(after.state)
    if clocks_agree:
        assert _queues(before.state) == _queues(after.state)
        assert _held(before.state) == _held(after.state)
    assert {name: _lanes(worker) for name, worker in before.state.cluster.workers.items() if worker.lanes} == {
        name: _lanes(worker) for name, worker in after.state.cluster.workers.items() if worker.lanes
    }
    for name, worker in before.state.cluster.workers.items():
        again = after.state.cluster.workers[name]
        assert worker.record() == again.record()
        assert worker.ledger.free == again.ledger.free
        assert worker.ledger.used() == again.ledger.used()
    assert before.state.cluster.workers.keys() == after.state.cluster.workers.keys()
    assert before.state.next_seq == after.state.next_seq
    living = {task.chosen_id: task.seq for task in before.state.tasks.values() if task.chosen_id is not None}
    assert after.state.chosen_ids == living


def _tasks(state: State) -> dict[int, tuple[object, ...]]:
    return {seq: _known(task) for seq, task in sorted(state.tasks.items())}


def _known(task: Task) -> tuple[object, ...]:
    """All but the attempt, which is compared in its lane."""
    times = task.start_at, task.deadline_at, task.ready_at
    budgets = task.retries_used, task.losses_used
    return task.chosen_id, task.terms, task.spec, task.state, task.attempt, *budgets, *times, task.wish


def _queues(state: State) -> dict[object, list[TaskSeq]]:
    """Who waits in which line, in order."""
    return {
        (group.room.shape, group.stream): waiting
        for group in state.pending.all_groups()
        if (waiting := sorted(task.seq for task in group.tasks() if not _may_wait_anew(task)))
    }


def _may_wait_anew(task: Task) -> bool:
    """Of an exclusive task that has run a restart does not know whether its last attempt has ended."""
    return task.terms.exclusive and task.attempt > 0


def _gangs(state: State) -> dict[str, tuple[object, ...]]:
    return {
        name: (gang.terms, sorted(gang.members), gang.active, gang.accepted, gang.is_stopping)
        for name, gang in state.gangs.by_name.items()
    }


def _held(state: State) -> dict[Reason, list[int]]:
    held: dict[Reason, list[int]] = {}
    for seq, task in sorted(state.tasks.items()):
        if task.state is TaskState.PENDING and task.hold is not None and not _may_wait_anew(task):
            held.setdefault(task.hold, []).append(seq)
    return held


def _lanes(worker: Worker) -> dict[int, tuple[object, ...]]:
    return {lane.id: (lane.room.shape, lane.devices, *_runs(lane.line)) for _, lane in sorted(worker.lanes.items())}


def _runs(line: Iterable[Task]) -> Iterator[tuple[object, ...]]:
    for task in line:
        run = task.run
        assert run is not None
        yield task.seq, task.attempt, run.place, run.epoch, run.queued_at, run.started_at
