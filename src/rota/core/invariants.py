"""The state checks itself: both sides of every relation, and every sum.

Runs after every command in tests and simulations. `check_invariants` costs O(everything), so it is never in the
product's loop; its parts, which are there by themselves, are for those who know what a command has touched.
"""

from __future__ import annotations

from collections.abc import Collection

from rota.core.calendars import DECIDED_MAX, HISTORY_MAX, was_decided
from rota.core.cluster import Room
from rota.core.gang_invariants import check_gangs
from rota.core.indexes import indexes_max
from rota.core.model import ACTIVE_STATES, Reason, TaskSeq, TaskState
from rota.core.pending import Group
from rota.core.resources import GPU, GPU_MEMORY
from rota.core.state import HOLD_REASONS, State
from rota.core.task import Task
from rota.core.workers import Lane, Worker

__all__ = [
    "check_invariants",
    "check_pending",
    "check_room",
    "check_sessions",
    "check_task",
    "check_use",
    "check_worker",
]


def check_invariants(state: State) -> None:
    """Raise `AssertionError` if the state contradicts itself."""
    for task in state.tasks.values():
        check_task(state, task)
    check_pending(state)
    _check_nobody_is_forgotten(state)
    _check_long_lines(state)
    for worker in state.cluster.workers.values():
        check_worker(worker)
    check_sessions(state)
    check_use(state)
    check_gangs(state)
    _check_calendars(state)


def _check_calendars(state: State) -> None:
    """What is decided is kept in order and bounded, and nothing waits for it."""
    for entry in state.calendars.all():
        progress = entry.progress
        ends = [end for span in progress.decided for end in span]
        assert ends == sorted(ends), entry.name
        assert len(progress.decided) <= DECIDED_MAX
        assert len(progress.history) <= HISTORY_MAX
        assert progress.through <= state.calendars.looked_at, entry.name
        if entry.next_at is not None:
            assert entry.next_at > progress.through, entry.name
            assert not was_decided(progress, entry.next_at), entry.name


def check_task(state: State, task: Task) -> None:
    """A task is in one state, and stands where that says. O(length of its line)."""
    seq = task.seq
    assert state.tasks[seq] is task, task
    assert seq < state.next_seq
    assert (task.run is not None) == (task.state in ACTIVE_STATES), task
    assert task.state in ACTIVE_STATES or task.state is TaskState.PENDING, task
    assert task.hold is None or task.state is TaskState.PENDING, task
    assert task.wish is None or task.state in ACTIVE_STATES, task
    assert task.chosen_id is None or state.chosen_ids[task.chosen_id] == seq
    if task.run is not None:
        assert any(other is task for other in task.run.lane.line)
        assert task.run.lane.worker.lanes[task.run.lane.id] is task.run.lane


def check_pending(state: State) -> None:
    """Every pending task is in exactly one place: held, or in one group."""
    queued = [task for group in state.pending.all_groups() for task in group.tasks()]
    pending = [task for task in state.tasks.values() if task.state is TaskState.PENDING]
    held = [task for task in pending if task.hold is not None]
    assert len(queued) == len({task.seq for task in queued}) == state.pending.size
    assert len(pending) == len(queued) + len(held)
    assert all(state.tasks[task.seq] is task and task.hold is None for task in queued)
    for reason in HOLD_REASONS:
        assert state.held[reason] == sum(task.hold is reason for task in held)
    for group in state.pending.all_groups():
        assert group.size == sum(1 for _ in group.tasks()) > 0
    for group in state.pending.waiting_for_room:
        assert state.pending.groups[group.room][group.stream] is group


def _check_nobody_is_forgotten(state: State) -> None:
    """Once a pass is over, nothing waits that a worker has room for; and every index knows who has room."""
    cluster, pending = state.cluster, state.pending
    if cluster.is_restless:
        return
    workers = cluster.workers.values()
    for room in cluster.rooms.values():
        check_room(state, room, workers)
        if room.index is not None:
            has_room = any(map(room.fits_now, workers))
            assert room in pending.groups or room in cluster.indexes.kept or not room.index.has_own, room.shape
            assert (room.index.choose("", room.fits_now) is not None) == has_room, room.shape
            if room not in pending.groups:
                cluster.indexes.keep(room, room.index)  # to be asked may have made one of its own
    assert len(cluster.indexes.kept) <= indexes_max(len(workers))


def check_room(state: State, room: Room, workers: Collection[Worker]) -> None:
    """Nothing of a room waits that one of these workers has room for, once a pass is over."""
    groups = state.pending.of_room(room)
    fitting = [worker for worker in workers if room.fits_now(worker)] if groups else ()
    for group in groups:
        head = group.head()
        if group.block is not None:  # then it is still so, and somebody will say when it is not
            assert _is_blocked(state, group), (room.shape, group.stream)
            continue
        rank = state.ordering.rank(group.stream, head.seq if head else TaskSeq(0))
        assert all(state.holds.may_keep_out(worker, group, rank) for worker in fitting), room.shape


def _is_blocked(state: State, group: Group) -> bool:
    queue = group.room.queue
    if group.block is Reason.LIMIT:  # its queue may be full by now as well, and others of its limits
        full = [state.limits.find_full((wanted,)) for wanted in group.stream.limits]
        return any(limit is not None and group.room in limit.rooms for limit in full)
    reason = queue.find_block(group.room.shape.resources)
    return reason is group.block and (reason is Reason.PAUSED or group.room in queue.rooms)


def check_use(state: State) -> None:
    """What is used of queues and limits is what live attempts use, and what lanes reserve."""
    running: dict[str, int] = {}
    held: dict[str, int] = {}
    used: dict[tuple[str, str], int] = {}
    for worker in state.cluster.workers.values():
        for lane in worker.lanes.values():
            queue = lane.room.queue.name
            running[queue] = running.get(queue, 0) + len(lane.line)
            for name, amount in lane.room.shape.resources:
                used[queue, name] = used.get((queue, name), 0) + amount
            for task in lane.line:
                assert task.terms.queue == queue
                for name, amount in task.terms.limits:
                    held[name] = held.get(name, 0) + amount
    for each in state.queues.all():
        assert each.running == running.get(each.name, 0), each.name
        for name, amount in each.used.items():
            assert amount == used.get((each.name, name), 0), (each.name, name)
    for limit in state.limits.all():
        assert limit.used == held.get(limit.name, 0), limit.name


def _check_long_lines(state: State) -> None:
    """Whoever has something to share is known, as far as its line was made in this reign."""
    for lane in state.cluster.long_lines:
        assert len(lane.line) > 1, (lane.worker.id, lane.id)
        assert lane.worker.lanes[lane.id] is lane


def check_worker(worker: Worker) -> None:
    """Used plus free is capacity; what is used is the sum of the lanes."""
    used: dict[str, int] = {}
    cards = 0
    for lane in worker.lanes.values():
        _check_lane(lane, worker)
        cards += len(lane.devices) if lane.room.cards else 0
        for name, amount in lane.room.plain:
            used[name] = used.get(name, 0) + amount
    ledger = worker.ledger
    for name, total in ledger.capacity.items():
        assert ledger.free[name] + used.get(name, 0) == total, (worker.id, name)
        assert ledger.free[name] >= 0, (worker.id, name, ledger.free[name])
    assert cards <= len(worker.offer.gpus)
    assert len(worker.lanes) <= worker.max_tasks
    assert all(name not in (GPU, GPU_MEMORY) for name in ledger.capacity)


def _check_lane(lane: Lane, worker: Worker) -> None:
    assert lane.line, (worker.id, lane.id)
    assert lane.worker is worker
    assert len(lane.line) == 1 or not lane.room.shape.alone, (worker.id, lane.id)
    places = [task.run.place for task in lane.line if task.run is not None]
    assert places == sorted(places)
    assert all(task.terms.shape == lane.room.shape for task in lane.line)
    assert all(task.state is TaskState.ASSIGNED or index == 0 for index, task in enumerate(lane.line))


def check_sessions(state: State) -> None:
    """Sessions and workers name each other."""
    cluster = state.cluster
    for session, worker in cluster.sessions.items():
        assert worker.session == session
        assert cluster.workers[worker.id] is worker
    for worker in cluster.workers.values():
        assert worker.session is None or cluster.sessions[worker.session] is worker
