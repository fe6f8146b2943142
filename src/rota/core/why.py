"""All that is known of why a task waits, worker by worker: made when somebody asks, never by the pass itself.

The pass leaves a typed reason with each shape that it could not place (`rota.core.explain` says it in a sentence). This
module goes further: what each worker lacks, in counts; what is the least that would have to change; which tasks go
first; and, where run times are known, when the task may start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from rota.core.cluster import Room
from rota.core.estimates import UNKNOWN_S
from rota.core.explain import explain_wait
from rota.core.model import Reason, WorkerState
from rota.core.ordering import stream_of
from rota.core.quantities import amount, quantity
from rota.core.reservations import fits_beside
from rota.core.resources import GPU, GPU_MEMORY
from rota.core.spec import EXECUTOR_TAG, GO_TAG, PYTHON_TAG
from rota.core.state import State
from rota.core.task import Task
from rota.core.workers import Worker

__all__ = ["Blocker", "Nearest", "Place", "StartRange", "Why", "why_it_waits"]

NEAR_SHARE: Final = 0.9
"""Workers that have this part of the most that anybody has count as having as much: the advice is for all of them."""

SPREAD: Final = 2.0
"""How far a start may be from what run times so far say, as a factor, at both ends."""

_PLACED_BY_ROOM: Final = frozenset(
    {Reason.RESOURCES, Reason.TAGS, Reason.NO_WORKERS, Reason.IMPOSSIBLE, Reason.RESERVATION}
)
"""The reasons that workers give. For all others it does not matter who is there."""


class Blocker(Struct, frozen=True):
    """What keeps some workers from taking the task, each worker counted once, by the first thing that it lacks."""

    reason: Reason
    workers: int
    text: str


class Nearest(Struct, frozen=True):
    """The one change of the request that would let most workers take it: less of a resource, or a tag less."""

    workers: int
    text: str
    resource: str | None = None
    amount: int | None = None
    tag: str | None = None


class Place(Struct, frozen=True):
    """How many pending tasks are served before this one, ``of`` so many that wait for a worker."""

    ahead: int
    of: int


class StartRange(Struct, frozen=True):
    """When it may start, wall clock, as far as run times so far tell, and what that is based on."""

    earliest: float
    latest: float
    basis: str


class Why(Struct, frozen=True):
    """Why a pending task waits. ``place``, ``nearest`` and ``start`` are there where they mean something."""

    reason: Reason
    text: str
    blockers: tuple[Blocker, ...] = ()
    place: Place | None = None
    nearest: Nearest | None = None
    start: StartRange | None = None


def why_it_waits(state: State, task: Task) -> Why:
    """Say all that is known of why a pending task waits.

    Cost: O(workers + groups of pending tasks), on the loop: some milliseconds with thousands of workers.
    """
    reason, text = explain_wait(state, task)
    if task.hold is not None:
        return Why(reason, text, start=_start_of_held(state, task))
    room = state.cluster.room_of(task.terms)
    if (trouble := room.policy.trouble) is not None:
        text = f"{text}; {trouble}"
    place = _place_of(state, task)
    if reason not in _PLACED_BY_ROOM:
        return Why(reason, text, place=place)
    workers = sorted(state.cluster.workers.values(), key=lambda worker: worker.id)
    return Why(
        reason,
        text,
        blockers=tuple(_blockers(state, room, workers)),
        place=place,
        nearest=_nearest(room, workers, is_now=reason in (Reason.RESOURCES, Reason.RESERVATION)),
        start=_start_of_waiting(state, task, room, ahead=place.ahead) if reason is Reason.RESOURCES else None,
    )


# What each worker lacks --------------------------------------------------------------------


def _blockers(state: State, room: Room, workers: Iterable[Worker]) -> list[Blocker]:
    """Count workers by the first thing that keeps them from the task, most workers first."""
    found: dict[tuple[Reason, str], list[Worker]] = {}
    for worker in workers:
        found.setdefault(_obstacle(state, room, worker), []).append(worker)
    blockers = [_blocker(room, reason, what, those) for (reason, what), those in found.items()]
    return sorted(blockers, key=lambda blocker: (-blocker.workers, blocker.text))


def _obstacle(state: State, room: Room, worker: Worker) -> tuple[Reason, str]:
    """The first thing that a worker lacks: a reason, and a resource, the tags, or a state as a word."""
    if missing := _missing_tags(room, worker):
        return Reason.TAGS, _tag_words(missing)
    if (name := _short_of(room, worker, _capacity)) is not None:
        return Reason.IMPOSSIBLE, name
    if not worker.is_open:
        is_away = worker.session is None and worker.state is WorkerState.ONLINE
        return Reason.NO_WORKERS, "disconnected" if is_away else worker.shown_state.value
    if (name := _short_of(room, worker, _free)) is not None:
        return Reason.RESOURCES, name
    if worker.kept and not fits_beside(worker, room):
        return Reason.RESERVATION, ", ".join(one.name for one in worker.kept if not one.is_for(room))
    if len(worker.lanes) + worker.quarantined >= worker.max_tasks:
        return Reason.RESOURCES, "max-tasks"
    return Reason.RESOURCES, "kept" if worker in state.holds.workers else ""


def _blocker(room: Room, reason: Reason, what: str, workers: list[Worker]) -> Blocker:
    """Say it of some workers in a sentence that begins with their number."""
    count = len(workers)
    who = "1 worker" if count == 1 else f"{count} workers"
    have, run, are = ("has", "runs", "is") if count == 1 else ("have", "run", "are")
    need = amount(what, dict(room.shape.resources).get(what, 0))
    match reason:
        case Reason.TAGS:
            return Blocker(reason, count, f"{who} {'lacks' if count == 1 else 'lack'} {what}")
        case Reason.IMPOSSIBLE:
            most = max(workers, key=lambda worker: (_capacity(worker, what), worker.id))
            has = quantity(what, _capacity(most, what))
            text = f"{who} {have} less than {need} in all (the largest, {most.id}: {has})"
        case Reason.RESERVATION:
            text = f"{who} {are} reserved for others ({what})"
        case Reason.NO_WORKERS:
            text = f"{who} {are} {what}"
        case _ if what == "max-tasks":
            text = f"{who} {run} as many tasks as {'it' if count == 1 else 'they'} may"
        case _ if what == "kept":
            text = f"{who} {are} kept for tasks that go first"
        case _ if not what:
            text = f"{who} {have} room: it is about to be placed"
        case _:
            most = max(workers, key=lambda worker: (_free(worker, what), worker.id))
            has = quantity(what, _free(most, what))
            text = f"{who} {have} less than {need} free (most free: {has} on {most.id})"
    return Blocker(reason, count, text)


def _missing_tags(room: Room, worker: Worker) -> list[str]:
    return room.filter.unmet(worker.tags)


def _tag_words(tags: list[str]) -> str:
    words = []
    for tag in tags:
        if tag == GO_TAG:
            words.append("a Go toolchain")
        elif tag.startswith(EXECUTOR_TAG):
            words.append(f"the executor for {tag.removeprefix(EXECUTOR_TAG)} tasks")
        elif tag.startswith(PYTHON_TAG):
            words.append(f"Python {tag.removeprefix(PYTHON_TAG)}")
        else:
            words.append(f"tag {tag}")
    return " and ".join(words)


def _short_of(room: Room, worker: Worker, has: Callable[[Worker, str], int]) -> str | None:
    """The first resource of which a worker has too little; ``gpu`` also where its cards have too little memory."""
    for name, count in room.plain:
        if has(worker, name) < count:
            return name
    if not (room.cards or room.memory_mib):
        return None
    devices = worker.ledger.devices
    if has is _capacity:
        fits = devices.could_ever(room.cards, room.memory_mib)
    else:
        fits = devices.find(room.cards, room.memory_mib) is not None
    return None if fits else GPU if room.cards else GPU_MEMORY


def _capacity(worker: Worker, name: str) -> int:
    if name == GPU:
        return len(worker.offer.gpus)
    if name == GPU_MEMORY:
        return max((card.memory_mib for card in worker.offer.gpus), default=0)
    return worker.ledger.capacity.get(name, 0)


def _free(worker: Worker, name: str) -> int:
    if name == GPU:
        return len(worker.offer.gpus) - worker.ledger.devices.taken_count()
    if name == GPU_MEMORY:
        return worker.ledger.devices.largest_share_mib()
    return worker.ledger.free.get(name, 0)


# What would let it run ---------------------------------------------------------------------


def _nearest(room: Room, workers: list[Worker], *, is_now: bool) -> Nearest | None:
    """Find the one change that would let most workers take it: now, or, where nobody ever can, when they are empty."""
    has = _free if is_now else _capacity
    changes = [_with_less(name, count, room, workers, has) for name, count in room.shape.resources]
    tags = sorted(tag for tag in room.shape.tags if not tag.startswith(EXECUTOR_TAG))
    changes += [_without_tag(tag, room, workers, has) for tag in tags]
    found = [change for change in changes if change is not None]
    return max(found, key=lambda change: change.workers, default=None)  # of equals the first: less before other tags


def _with_less(
    name: str, count: int, room: Room, workers: list[Worker], has: Callable[[Worker, str], int]
) -> Nearest | None:
    """Suppose that the task asked for less of one resource."""
    if name in (GPU, GPU_MEMORY):  # less of one may still not fit beside the other
        return None
    others = [(other, least) for other, least in room.shape.resources if other != name]
    able = [
        has(worker, name)
        for worker in workers
        if _may_take(room, worker, has) and all(has(worker, other) >= least for other, least in others)
    ]
    most = max(able, default=0)
    if not 0 < most < count:
        return None
    near = [each for each in able if each >= NEAR_SHARE * most]
    return Nearest(len(near), f"would fit on {_count(near)} with {amount(name, min(near))}", name, min(near))


def _without_tag(tag: str, room: Room, workers: list[Worker], has: Callable[[Worker, str], int]) -> Nearest | None:
    """Suppose that the task did without a tag."""
    able = [
        worker
        for worker in workers
        if _missing_tags(room, worker) == [tag] and _is_up(worker) and _short_of(room, worker, has) is None
    ]
    if not able:
        return None
    return Nearest(len(able), f"would fit on {_count(able)} without {_tag_words([tag])}", tag=tag)


def _may_take(room: Room, worker: Worker, has: Callable[[Worker, str], int]) -> bool:
    is_full = len(worker.lanes) + worker.quarantined >= worker.max_tasks
    return not _missing_tags(room, worker) and _is_up(worker) and not (is_full and has is _free)


def _is_up(worker: Worker) -> bool:
    return worker.is_open


def _count(workers: list[int] | list[Worker]) -> str:
    return "1 worker" if len(workers) == 1 else f"{len(workers)} workers"


# When its turn comes -----------------------------------------------------------------------


def _place_of(state: State, task: Task) -> Place:
    """Count the pending tasks that are served before. What is held back, for a backoff say, is not among them."""
    ordering, pending = state.ordering, state.pending
    own = ordering.rank(stream_of(task.terms), task.seq)[:2]
    ahead = 0
    for group in pending.all_groups():
        rank = ordering.rank(group.stream, task.seq)[:2]
        if rank < own:
            ahead += group.size
        elif rank == own:
            ahead += group.count_before(task.seq)
    return Place(ahead, pending.size)


def _start_of_held(state: State, task: Task) -> StartRange | None:
    if task.hold is Reason.GANG:
        return None
    if task.hold is Reason.EXCLUSIVE:
        over_at = state.wall + state.exclusive.may_run_until(task.seq) - state.now
        return StartRange(over_at, over_at, "then it waits for a worker, if none has room")
    at = task.ready_at if task.ready_at is not None else task.start_at
    return None if at is None else StartRange(at, at, "then it waits for a worker, if none has room")


def _start_of_waiting(state: State, task: Task, room: Room, *, ahead: int) -> StartRange | None:
    """Guess from how long tasks of its class take, and how many of its shape run at once."""
    run_s = room.run_times.estimate_s(task.terms.class_key)
    at_once = sum(_lanes_at_most(room, worker) for worker in state.cluster.could_ever_run(room) if worker.is_open)
    if run_s >= UNKNOWN_S or not at_once:
        return None
    first_s = _first_end_s(state, room)
    rounds_s = run_s * (ahead // at_once)
    return StartRange(
        earliest=state.wall + first_s + rounds_s / SPREAD,
        latest=state.wall + SPREAD * (first_s + rounds_s) + run_s,
        basis=f"tasks like it take {run_s:,.1f} s, {at_once:,} can run at once, {ahead:,} go first",
    )


def _lanes_at_most(room: Room, worker: Worker) -> int:
    """How many tasks of a shape an empty worker could run at once."""
    shares = [_capacity(worker, name) // count for name, count in room.shape.resources if count]
    return min([*shares, worker.max_tasks])


def _first_end_s(state: State, room: Room) -> float:
    """In how many seconds the first task that stands in the way is thought to end; 0 if nobody knows."""
    left = [
        max(0.0, lane.head_since + head.run.estimate_s - state.now)
        for worker in state.cluster.could_ever_run(room)
        for lane in worker.lanes.values()
        if (head := lane.line[0]).run is not None and head.run.estimate_s < UNKNOWN_S
    ]
    return min(left, default=0.0)
