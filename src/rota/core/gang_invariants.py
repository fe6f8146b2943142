"""What always holds of gangs: see `rota.core.invariants`."""

from __future__ import annotations

from rota.core.cluster import Cluster, Room
from rota.core.gangs import Gang
from rota.core.model import Reason
from rota.core.ordering import stream_of
from rota.core.state import State
from rota.core.workers import Lane, Worker

__all__ = ["check_gang", "check_gangs"]


def check_gangs(state: State) -> None:
    """Raise `AssertionError` if gangs contradict their members, or one waits that has room."""
    members = {seq: task for seq, task in state.tasks.items() if task.terms.gang is not None}
    in_gangs = {seq: task for gang in state.gangs.by_name.values() for seq, task in gang.members.items()}
    assert members == in_gangs, (sorted(members), sorted(in_gangs))
    for name, gang in state.gangs.by_name.items():
        assert gang.name == name
        check_gang(state, gang)
        assert (gang in state.gangs.complete) == gang.is_complete, name
    if not state.cluster.is_restless:
        for gang in state.gangs.complete:
            _check_has_no_room(state, gang)


def check_gang(state: State, gang: Gang) -> None:
    """Where it stands follows from where its members stand, and is one of the few places where a gang can stand."""
    tasks = list(gang.members.values())
    assert 0 < len(tasks) <= gang.accepted <= gang.size, gang.name
    assert gang.active == sum(task.run is not None for task in tasks), gang.name
    assert gang.ready == {task.seq: task for task in tasks if task.hold is Reason.GANG}, gang.name
    assert gang.is_whole or not gang.is_stopping, f"{gang.name} is to run again without those that have completed"
    for task in tasks:
        assert state.gangs.of(task) is gang
        assert task.terms.gang == gang.terms
        assert task.hold is not None or task.run is not None, task
        assert task.run is None or (task.run.lane.room.shape.alone == "gang" and len(task.run.lane.line) == 1)
        assert gang.fate is None or (task.run is not None and task.wish is not None), f"{task.id}: {gang.fate}"


def _check_has_no_room(state: State, gang: Gang) -> None:
    """No gang waits that has room for all. Only of those of one shape that is known for sure."""
    shapes = {(task.terms.shape, task.terms.queue) for task in gang.members.values()}
    if len(shapes) > 1 or gang.block is not None:
        return
    room = state.cluster.room_of(gang.in_order()[0].terms)
    first = gang.in_order()[0]
    rank = state.ordering.rank(stream_of(first.terms), first.seq)
    workers = [
        worker
        for worker in state.cluster.workers.values()
        if not state.holds.keeps_gang_out(worker, rank, first.terms.priority)
    ]
    fits = sum(_count_lanes(state.cluster, worker, room, most=gang.size) for worker in workers)
    assert fits < gang.size, f"{gang.name} waits, and there is room for {fits}"


def _count_lanes(cluster: Cluster, worker: Worker, room: Room, *, most: int) -> int:
    """How many more lanes of a shape a worker has room for now; leaves all as it was."""
    next_lane = worker.next_lane
    lanes: list[Lane] = []
    while len(lanes) < most and room.fits_now(worker):
        lanes += cluster.open_lanes(room, [(worker, "")])
    for lane in lanes:
        cluster.close_lane(lane, in_vain=True)
    worker.next_lane = next_lane
    return len(lanes)
