"""Preemption: a task that nothing fits takes the place of others whose priority is much lower.

Only queues that say so (``preempts_by``) do it. On the worker where it costs least, the fewest lanes that make room
are ended, of these the youngest: what stands in their lines is asked back, their heads are told to end (SIGTERM, a
grace, SIGKILL) and go back to the tasks that wait, without losing a retry. Until the room is there the worker is kept
for the task.

Nothing goes in circles: a victim's own priority is lower by at least the gap, whatever it has gained by waiting, and
the gap is at least 1; so who was preempted can never preempt back.
"""

from __future__ import annotations

from collections.abc import Iterator

from rota.core.attempts import Attempts
from rota.core.cluster import Lane, Room, Worker
from rota.core.model import Resources
from rota.core.resources import Devices
from rota.core.state import State
from rota.core.task import Task

__all__ = ["Preemption"]


class Preemption:
    """Makes room for tasks that may preempt."""

    def __init__(self, state: State, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts

    def make_room(self, head: Task, room: Room) -> Worker | None:
        """End what must end so that a task has room; return the worker that is to be kept for it, if there is one.

        Cost: O(lanes of all workers that could run it), only for tasks of queues that preempt and have no room.
        """
        gap = room.queue.settings.preempts_by
        if gap is None:
            return None
        highest = head.terms.priority - max(gap, 1)
        best: tuple[tuple[int, float, int], Worker, list[Lane]] | None = None
        for worker in self._state.cluster.could_ever_run(room):
            victims = _find_victims(worker, room, highest) if worker.is_open else None
            if victims is None:
                continue
            cost = (len(victims), -sum(lane.head_since for lane in victims), worker.number)
            if best is None or cost < best[0]:
                best = cost, worker, victims
        if best is None:
            return None
        for lane in best[2]:
            self._attempts.preempt(lane)
        return best[1]


def _find_victims(worker: Worker, room: Room, highest: int) -> list[Lane] | None:
    """The lanes of a worker that must end; none of them if its room is on its way; ``None`` if all would not do."""
    free = dict(worker.ledger.free)
    cards = _Cards(worker.ledger.devices, room)
    if _has_room(free, room, cards):
        return None  # there is nothing to make: it is kept for another
    going = [lane for lane in worker.lanes.values() if _is_going(lane)]
    for lane in going:
        _add(free, lane.room.plain)
        cards.give(lane)
    if _has_room(free, room, cards):
        return []
    able = [lane for lane in worker.lanes.values() if not _is_going(lane) and _may_take(lane, highest)]
    # Tried twice, the youngest first and the largest first: whichever way fewer have to go.
    ways = [
        _choose(sorted(able, key=order, reverse=True), dict(free), room, cards.copy())
        for order in (_youth, lambda lane: (_size(lane, worker), *_youth(lane)))
    ]
    found = [way for way in ways if way is not None]
    return min(found, key=len, default=None)


def _choose(lanes: list[Lane], free: dict[str, int], room: Room, cards: _Cards) -> list[Lane] | None:
    """Take lanes in order until there is room; then spare those that were not needed, the older ones first."""
    chosen: list[Lane] = []
    for lane in lanes:
        chosen.append(lane)
        _add(free, lane.room.plain)
        cards.give(lane)
        if _has_room(free, room, cards):
            return list(_needed(chosen, free, room, cards))
    return None


def _youth(lane: Lane) -> tuple[float, int]:
    return lane.head_since, lane.id


def _size(lane: Lane, worker: Worker) -> float:
    """What a lane has of its worker: the largest of its shares."""
    capacity = worker.ledger.capacity
    shares = [amount / capacity[name] for name, amount in lane.room.plain if capacity.get(name)]
    return max([len(lane.devices) / max(len(worker.offer.gpus), 1), *shares])


def _needed(chosen: list[Lane], free: dict[str, int], room: Room, cards: _Cards) -> Iterator[Lane]:
    """Those of the chosen without which there would be no room."""
    for lane in sorted(chosen, key=_youth):
        _add(free, lane.room.plain, sign=-1)
        cards.take(lane)
        if not _has_room(free, room, cards):
            _add(free, lane.room.plain)
            cards.give(lane)
            yield lane


def _is_going(lane: Lane) -> bool:
    run = lane.line[0].run
    return lane.line[0].wish is not None or (run is not None and run.is_preempted)


def _may_take(lane: Lane, highest: int) -> bool:
    return all(task.terms.priority <= highest for task in lane.line)


def _has_room(free: dict[str, int], room: Room, cards: _Cards) -> bool:
    return all(free.get(name, 0) >= amount for name, amount in room.plain) and cards.are_enough()


def _add(free: dict[str, int], need: Resources, *, sign: int = 1) -> None:
    for name, amount in need:
        free[name] = free.get(name, 0) + sign * amount


class _Cards:
    """The cards of a worker as if some of its lanes had given theirs back."""

    def __init__(self, devices: Devices, room: Room) -> None:
        self._devices = devices.copy()
        self._room = room

    def copy(self) -> _Cards:
        return _Cards(self._devices, self._room)

    def give(self, lane: Lane) -> None:
        self._devices.give_back(lane.devices, lane.room.cards, lane.room.memory_mib)

    def take(self, lane: Lane) -> None:
        self._devices.take(lane.devices, lane.room.cards, lane.room.memory_mib)

    def are_enough(self) -> bool:
        room = self._room
        return not (room.cards or room.memory_mib) or self._devices.find(room.cards, room.memory_mib) is not None
