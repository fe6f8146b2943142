"""The pass that places pending tasks: by rank, shape by shape, never task by task.

Only shapes that something stirred are looked at: a task came, room was freed, a worker came. For each,
the policy chooses workers until none has room; what is left extends the lines of lanes of
its shape, unless a line would overtake an earlier task that waits for the same workers.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from rota.core.attempts import LINE_S, Attempts
from rota.core.cluster import Lane, Room
from rota.core.model import Reason
from rota.core.ordering import Rank
from rota.core.pending import Group
from rota.core.state import State
from rota.core.timers import Impossible

__all__ = ["LINE_MAX", "Dispatch"]

LINE_MAX: Final = 512
"""Attempts in a line, however short: bounds what a lost worker gives back at once."""


class Dispatch:
    """Places what can be placed."""

    def __init__(self, state: State, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts

    def run(self) -> None:
        """Serve the stirred groups from the lowest rank on."""
        cluster = self._state.cluster
        if not cluster.stirred:
            return
        queue: list[tuple[Rank, int, Group]] = []
        stirred, cluster.stirred = cluster.stirred, {}
        for room in stirred:
            for group in self._state.pending.of_room(room):
                self._enqueue(group, queue)
        while queue:
            _, _, group = heappop(queue)
            if self._serve(group, queue[0][0] if queue else None):
                self._enqueue(group, queue)
        # What closing and opening lanes stirred in this pass has been served by it.
        cluster.stirred = {}

    def _enqueue(self, group: Group, queue: list[tuple[Rank, int, Group]]) -> None:
        rank = self._rank(group)
        if rank is not None:
            heappush(queue, (rank, len(queue), group))

    def _rank(self, group: Group) -> Rank | None:
        head = group.head()
        return None if head is None else self._state.ordering.rank(group.key, head.seq)

    def _serve(self, group: Group, bound: Rank | None) -> bool:
        """Place tasks of a group until it is empty, out of room, or behind ``bound``: true for the last."""
        state, room = self._state, group.room
        cluster, ordering, pending = state.cluster, state.ordering, state.pending
        while (head := group.head()) is not None:
            if bound is not None and ordering.rank(group.key, head.seq) > bound:
                return True
            worker = room.index.choose(room.fits_now)
            if worker is None:
                self._extend_lines(group, bound)
                self._refuse(group)
                return False
            lane = cluster.open_lane(worker, room)
            pending.take(group)
            self._attempts.assign(head, lane, estimate_s=room.run_times.estimate_s(head.terms.class_key))
        return False

    def _extend_lines(self, group: Group, bound: Rank | None) -> None:
        """Share the first tasks of a group among the hungry lanes of its shape."""
        lanes = [lane for lane in group.room.hungry if self._may_extend(lane, group)]
        for index, lane in enumerate(lanes):
            share = -(-group.size // (len(lanes) - index))
            if not share:
                return
            self._fill(lane, group, bound=bound, share=share)

    def _fill(self, lane: Lane, group: Group, *, bound: Rank | None, share: int) -> None:
        room, ordering, pending = group.room, self._state.ordering, self._state.pending
        for _ in range(min(share, LINE_MAX - len(lane.line))):
            head = group.head()
            if head is None or (bound is not None and ordering.rank(group.key, head.seq) > bound):
                return
            estimate_s = room.run_times.estimate_s(head.terms.class_key)
            if lane.backlog_s + estimate_s > LINE_S:
                return
            pending.take(group)
            self._attempts.assign(head, lane, estimate_s=estimate_s)

    def _may_extend(self, lane: Lane, group: Group) -> bool:
        """A line must not keep a worker from an earlier task that waits for room there."""
        if not lane.worker.is_open:
            return False
        rank = self._rank(group)
        assert rank is not None
        for other in self._state.pending.waiting_for_room:
            if other is not group and lane.worker.id in other.room.eligible:
                other_rank = self._rank(other)
                if other_rank is not None and other_rank < rank:
                    return False
        return True

    def _refuse(self, group: Group) -> None:
        """Note why the group waits, and that nobody behind it may prolong a hold on what it waits for."""
        if not group.size:
            return
        waiting, room = self._state.pending.waiting_for_room, group.room
        reason = self._state.cluster.refusal(room)
        if reason is Reason.RESOURCES:
            waiting[group] = None
        else:
            waiting.pop(group, None)
        if reason is Reason.IMPOSSIBLE and room.impossible is None:
            self.watch_impossible(room)

    def watch_impossible(self, room: Room) -> None:
        """Look again when the tasks of a shape that wait now have waited long enough."""
        state = self._state
        last = max(task.seq for group in state.pending.of_room(room) for task in group.tasks())
        room.impossible = Impossible(room.shape, last)
        state.timers.at(state.now + state.config.impossible_after_s, room.impossible)
