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
from rota.core.cluster import Room
from rota.core.prospects import Prospect
from rota.core.state import State
from rota.core.task import Task
from rota.core.workers import Lane, Worker

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
            victims = self._find_victims(worker, room, highest) if worker.is_open else None
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

    def _find_victims(self, worker: Worker, room: Room, highest: int) -> list[Lane] | None:
        """The lanes of a worker that must end; none if its room is on its way; ``None`` if all would not do."""
        prospect = Prospect(worker, room)
        if prospect.has_room():
            return None  # there is nothing to make: it is kept for another
        able: list[Lane] = []
        for lane in worker.lanes.values():
            if self._is_going(lane):
                prospect.close(lane)
            elif self._may_take(lane, highest):
                able.append(lane)
        if prospect.has_room():
            return []
        # Tried twice, the youngest first and the largest first: whichever way fewer have to go.
        ways = [
            _choose(sorted(able, key=order, reverse=True), prospect.copy())
            for order in (_youth, lambda lane: (_size(lane, worker), *_youth(lane)))
        ]
        found = [way for way in ways if way is not None]
        return min(found, key=len, default=None)

    def _is_going(self, lane: Lane) -> bool:
        head, run = lane.line[0], lane.line[0].run
        if head.wish is not None or (run is not None and run.is_preempted):
            return True
        return head.terms.gang is not None and self._state.gangs.of(head).is_stopping

    def _may_take(self, lane: Lane, highest: int) -> bool:
        """Whether all of a line may be put off: not who would end by that, because its gang can't run again."""
        return all(
            task.terms.priority <= highest and (task.terms.gang is None or self._state.gangs.of(task).is_whole)
            for task in lane.line
        )


def _choose(lanes: list[Lane], prospect: Prospect) -> list[Lane] | None:
    """Take lanes in order until there is room; then spare those that were not needed, the older ones first."""
    chosen: list[Lane] = []
    for lane in lanes:
        chosen.append(lane)
        prospect.close(lane)
        if prospect.has_room():
            return list(_needed(chosen, prospect))
    return None


def _youth(lane: Lane) -> tuple[float, int]:
    return lane.head_since, lane.id


def _size(lane: Lane, worker: Worker) -> float:
    """What a lane has of its worker: the largest of its shares."""
    capacity = worker.ledger.capacity
    shares = [amount / capacity[name] for name, amount in lane.room.plain if capacity.get(name)]
    return max([len(lane.devices) / max(len(worker.offer.gpus), 1), *shares])


def _needed(chosen: list[Lane], prospect: Prospect) -> Iterator[Lane]:
    """Those of the chosen without which there would be no room."""
    for lane in sorted(chosen, key=_youth):
        prospect.reopen(lane)
        if not prospect.has_room():
            prospect.close(lane)
            yield lane
