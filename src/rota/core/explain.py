"""Why a task waits, in a sentence: made when somebody asks, never by the pass itself.

The pass leaves a typed reason with each shape it could not place; this module looks at the
workers once more and says it with numbers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from rota.core.cluster import Cluster, Room
from rota.core.gang_placing import could_ever_fit, gang_verdict
from rota.core.gangs import Gang
from rota.core.model import Reason, Shape, WorkerState
from rota.core.ordering import TaskStream, stream_of
from rota.core.quantities import amount, quantity
from rota.core.reservations import fits_beside
from rota.core.spec import EXECUTOR_TAG, GO_TAG, PYTHON_TAG
from rota.core.state import State
from rota.core.task import Task
from rota.core.workers import Worker

__all__ = [
    "EXPLANATIONS_MAX",
    "Explainer",
    "explain_gang",
    "explain_impossible",
    "explain_wait",
    "place_in_line",
    "reasons",
]


EXPLANATIONS_MAX: Final = 20
"""Sentences with numbers in one answer: each looks at every worker, and the loop decides nothing meanwhile."""

_GENERAL: Final[dict[Reason, str]] = {
    Reason.IMPOSSIBLE: "needs more than any known worker has",
    Reason.TAGS: "no worker has all of its tags, can run its kind and has its Python",
    Reason.NO_WORKERS: "no worker that could run it takes tasks now",
    Reason.RESOURCES: "waits for room on a worker",
    Reason.RESERVATION: "the room that there is, is reserved for others",
}


_BLOCKED: Final[dict[Reason, str]] = {
    Reason.PAUSED: "its queue is paused, which holds up",
    Reason.QUOTA: "its queue may not have so much at once as would be needed for",
    Reason.LIMIT: "a limit of the cluster has not enough left for",
}


class Explainer:
    """Says why tasks wait, for one answer about many: each shape is looked at once, and only so many in detail."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: dict[tuple[Shape, TaskStream], tuple[Reason, str]] = {}

    def explain(self, task: Task) -> tuple[Reason, str]:
        """Say why a pending task waits. The reason is always its own; the sentence may be without numbers."""
        if task.hold is not None:
            return explain_wait(self._state, task)
        key = task.terms.shape, stream_of(task.terms)
        why = self._known.get(key)
        if why is None:
            if len(self._known) < EXPLANATIONS_MAX:
                why = explain_wait(self._state, task)
            else:
                reason = reason_of_room(self._state.cluster, self._state.cluster.room_of(task.terms))
                why = reason, _GENERAL[reason]
            self._known[key] = why
        return why


def explain_wait(state: State, task: Task) -> tuple[Reason, str]:
    """Say why a pending task waits: the reason, and a sentence with the numbers.

    Cost: O(workers). For people, not for the pass.
    """
    if task.hold is Reason.BACKOFF:
        wait_s = max(0.0, (task.ready_at or state.wall) - state.wall)
        return task.hold, f"waits {wait_s:.1f} s before attempt {task.attempt + 1}"
    if task.hold is Reason.EXCLUSIVE:
        left_s = state.exclusive.may_run_until(task.seq) - state.now
        until = datetime.fromtimestamp(state.wall + left_s, UTC)
        return task.hold, f"its last worker may run it until {until:%Y-%m-%d %H:%M:%S} UTC"
    if task.hold is Reason.GANG:
        return explain_gang(state, state.gangs.of(task))
    if task.hold is not None:
        start_at = datetime.fromtimestamp(task.start_at or state.wall, UTC)
        return task.hold, f"its start time, {start_at:%Y-%m-%d %H:%M:%S} UTC, has not come"
    cluster = state.cluster
    room = cluster.room_of(task.terms)
    group = state.pending.find(room, stream_of(task.terms))
    if group is not None and group.block is not None:
        return group.block, _explain_block(state, task, room, group.block)
    reason = reason_of_room(cluster, room)
    if reason is Reason.RESERVATION:
        return reason, _explain_reservation(cluster, room)
    kept = [worker.id for worker in state.holds.workers if room.fits_now(worker)]
    if kept and reason is Reason.RESOURCES:
        return reason, f"the room on {', '.join(kept)} is kept for a task that goes first"
    return reason, _explain_refusal(cluster, room, reason)


def reason_of_room(cluster: Cluster, room: Room) -> Reason:
    """Why tasks of a room wait that only workers keep waiting."""
    reason = cluster.refusal(room)
    is_kept = reason is Reason.RESOURCES and any(_keeps_from(worker, room) for worker in cluster.workers.values())
    return Reason.RESERVATION if is_kept else reason


def _keeps_from(worker: Worker, room: Room) -> bool:
    """Whether a worker would have room, were it not reserved for others."""
    if not worker.kept or room.fits_now(worker) or not worker.is_open or not room.accepts(worker):
        return False
    return worker.ledger.fits(room.plain) and not fits_beside(worker, room)


def _explain_reservation(cluster: Cluster, room: Room) -> str:
    keepers = [worker for worker in cluster.workers.values() if _keeps_from(worker, room)]
    names = sorted({one.name for worker in keepers for one in worker.kept if not one.is_for(room)})
    end_at = max(one.reservation.end_at for worker in keepers for one in worker.kept)
    until = f"{datetime.fromtimestamp(end_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"the room on {_count(keepers)} is reserved ({', '.join(names)}) until {until}"


def _explain_refusal(cluster: Cluster, room: Room, reason: Reason) -> str:
    match reason:
        case Reason.IMPOSSIBLE:
            return explain_impossible(cluster, room)
        case Reason.TAGS:
            return _explain_tags(cluster, room)
        case Reason.NO_WORKERS:
            return _explain_no_workers(cluster, room)
        case _:
            return _explain_resources(cluster, room)


def explain_gang(state: State, gang: Gang) -> tuple[Reason, str]:
    """Say why a gang waits: for members, for one of them, or for room. Cost: O(workers), O(members)."""
    if gang.is_stopping:
        return Reason.GANG, f"its gang runs again when {gang.active} of {gang.size} members have stopped"
    if len(gang.members) < gang.size:
        return Reason.GANG, f"{len(gang.members)} of {gang.size} members are there"
    if not gang.is_complete:
        late = next(task for task in gang.in_order() if task.seq not in gang.ready)
        return Reason.GANG, f"member {gang.call(late)} {explain_wait(state, late)[1]}"
    if gang.block is not None:
        return gang.block, f"{_BLOCKED[gang.block]} all {gang.size} members of its gang"
    reason = gang_verdict(state, gang)
    if reason is Reason.GANG:
        return reason, f"waits for room for all {gang.size}: {gang.fits or 0} fit now"
    for task in gang.in_order():
        room = state.cluster.room_of(task.terms)
        if state.cluster.refusal(room) is reason and reason is not Reason.RESOURCES:
            return reason, f"member {gang.call(task)} of its gang: {_explain_refusal(state.cluster, room, reason)}"
    fits = could_ever_fit(state, gang)
    return reason, f"needs room for all {gang.size} at once; the workers there are could hold {fits} if they were empty"


def _explain_block(state: State, task: Task, room: Room, block: Reason) -> str:
    """Say what a queue or a limit has no more of."""
    queue = room.queue
    if block is Reason.PAUSED:
        return f"the queue {queue.name} is paused"
    if block is Reason.LIMIT:
        limit = state.limits.find_full(task.terms.limits)
        if limit is None:
            return "waits for its limits to be free"  # they are: it is about to be looked at
        wanted = dict(task.terms.limits)[limit.name]
        wants = f"{wanted:,} of " if wanted != 1 else ""
        return f"waits for {wants}the limit {limit.name}: {limit.used:,} of {limit.size:,} are in use"
    most = queue.settings.max_running
    if most is not None and queue.running >= most:
        return f"the queue {queue.name} runs {queue.running:,} of at most {most:,}"
    name = queue.find_full(room.shape.resources) or "cpu"
    most = queue.settings.max_resources.get(name, 0)
    return f"the queue {queue.name} uses {quantity(name, queue.used.get(name, 0))} of at most {amount(name, most)}"


def explain_impossible(cluster: Cluster, room: Room) -> str:
    """Say what no worker could ever give, and name the largest worker."""
    tagged = [worker for worker in cluster.workers.values() if room.accepts(worker)]
    for name, count in room.shape.resources:
        largest = max(tagged, key=lambda worker: (_total(worker, name), worker.id), default=None)
        if largest is not None and _total(largest, name) < count:
            has = quantity(name, _total(largest, name))
            return f"needs {amount(name, count)}; the largest worker, {largest.id}, has {has}"
    return f"no single worker has {_amounts(room)} together"


def place_in_line(task: Task) -> int | None:
    """How many attempts stand before an assigned task in its lane; ``None`` for others."""
    return None if task.run is None else task.run.lane.line.index(task)


def reasons(state: State) -> dict[Reason, int]:
    """Count pending tasks by reason. Cost: O(groups)."""
    counts = {reason: count for reason, count in state.held.items() if count}
    for group in state.pending.all_groups():
        reason = group.block or reason_of_room(state.cluster, group.room)
        counts[reason] = counts.get(reason, 0) + group.size
    return counts


def _explain_tags(cluster: Cluster, room: Room) -> str:
    """Say what nobody has: the kind of work, the Python of a function, or plain tags; or that nobody has it all."""
    tags = sorted(room.shape.tags)
    unmet = [set(room.filter.unmet(worker.tags)) for worker in cluster.workers.values()]
    missing = [tag for tag in tags if all(tag in lacking for lacking in unmet)]
    for tag in missing:
        if tag == GO_TAG:
            return f"waits for a worker with a Go toolchain: none of {_count(list(cluster.workers.values()))} has one"
        if tag.startswith(EXECUTOR_TAG):
            return f"no worker can run tasks of kind {tag.removeprefix(EXECUTOR_TAG)}"
    for tag in missing:
        if tag.startswith(PYTHON_TAG):
            return f"no worker runs Python {tag.removeprefix(PYTHON_TAG)}{_pythons(cluster)}"
    if missing:
        return f"no worker {said_of_tags(missing)}"
    plain = [tag for tag in tags if not tag.startswith((EXECUTOR_TAG, PYTHON_TAG))]
    kinds = [f"kind {tag.removeprefix(EXECUTOR_TAG)}" for tag in tags if tag.startswith(EXECUTOR_TAG)]
    pythons = [f"Python {tag.removeprefix(PYTHON_TAG)}" for tag in tags if tag.startswith(PYTHON_TAG)]
    if not plain:
        return f"no worker has all of {', '.join([*kinds, *pythons])}"
    return f"no worker has all of the tags {', '.join([*plain, *pythons])}"


def said_of_tags(tags: list[str], *, have: str = "has") -> str:
    """What a worker would have to be: ``has the tag ssd``, ``is without the tag spot``."""
    wanted = ", ".join(tag for tag in tags if not tag.startswith("!"))
    unwanted = ", ".join(tag.removeprefix("!") for tag in tags if tag.startswith("!"))
    parts = [f"{have} the tag {wanted}"] if wanted else []
    parts += [f"is without the tag {unwanted}"] if unwanted else []
    return " and ".join(parts)


def _pythons(cluster: Cluster) -> str:
    """Which Pythons there are, each with a worker that has it; nothing if there are none."""
    workers: dict[str, list[Worker]] = {}
    for worker in sorted(cluster.workers.values(), key=lambda worker: worker.id):
        if worker.offer.python:
            workers.setdefault(worker.offer.python, []).append(worker)
    listed = [
        f"{first.id} has {python}" if not others else f"{first.id} and {len(others)} more have {python}"
        for python, (first, *others) in sorted(workers.items())
    ]
    return f" ({', '.join(listed)})" if listed else ""


def _explain_no_workers(cluster: Cluster, room: Room) -> str:
    if not cluster.workers:
        return "no worker has registered yet"
    states: dict[str, int] = {}
    for worker in cluster.could_ever_run(room):
        is_away = worker.session is None and worker.state is WorkerState.ONLINE
        word = "disconnected" if is_away else worker.shown_state.value
        states[word] = states.get(word, 0) + 1
    listed = ", ".join(f"{count} {word}" for word, count in sorted(states.items()))
    return f"no worker that could run it takes tasks now ({listed})"


def _explain_resources(cluster: Cluster, room: Room) -> str:
    """Say what is short where it fits best."""
    open_workers = [worker for worker in cluster.could_ever_run(room) if worker.is_open]
    short: list[str] = []
    for name, count in room.plain:
        freest = max(open_workers, key=lambda worker: (worker.ledger.free.get(name, 0), worker.id))
        free = freest.ledger.free.get(name, 0)
        if free < count:
            short.append(f"{amount(name, count)} (most free: {quantity(name, free)} on {freest.id})")
    if short:
        return f"waits for {', '.join(short)} on {_count(open_workers)}"
    if all(len(worker.lanes) + worker.quarantined >= worker.max_tasks for worker in open_workers):
        return f"{_count(open_workers)} run as many tasks as they may"
    return f"waits for {_amounts(room)} to be free on one of {_count(open_workers)}"


def _count(workers: list[Worker]) -> str:
    return "1 worker" if len(workers) == 1 else f"{len(workers)} workers"


def _amounts(room: Room) -> str:
    return ", ".join(amount(name, count) for name, count in room.shape.resources)


def _total(worker: Worker, name: str) -> int:
    if name == "gpu":
        return len(worker.offer.gpus)
    if name == "gpu_memory":
        return max((card.memory_mib for card in worker.offer.gpus), default=0)
    return worker.ledger.capacity.get(name, 0)
