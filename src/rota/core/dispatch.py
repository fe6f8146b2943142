"""The pass that places pending tasks: by rank, shape by shape, never task by task.

Only shapes that something stirred are looked at: a task came, room was freed, a worker came. For each,
the policy chooses workers until none has room; what is left extends the lines of lanes of
its shape, unless a line would overtake an earlier task that waits for the same workers.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from rota.core.attempts import LINE_S, Attempts
from rota.core.backfill import longest_run_s
from rota.core.balance import Balance
from rota.core.choosing import choices
from rota.core.cluster import Room
from rota.core.gang_placing import GangPlacer
from rota.core.indexes import offer_to
from rota.core.model import Reason
from rota.core.ordering import Rank
from rota.core.pending import Group
from rota.core.placement.base import HasRoom, RoomIndex
from rota.core.preemption import Preemption
from rota.core.state import State
from rota.core.timers import Impossible
from rota.core.workers import Lane, Worker

__all__ = ["IN_VAIN_MAX", "LINE_MAX", "Dispatch"]

LINE_MAX: Final = 2048
"""Attempts in a line, however short: bounds what a lost worker gives back at once.

No-op functions on two lanes: 36,000 a second with 512, 42,000 with 1,024, 46,000 with this. It must cover two turns.
"""

AT_ONCE: Final = 256
"""Lanes that are opened before their attempts are made: those of more are not in the processor's cache any more."""

IN_VAIN_MAX: Final = 16
"""Lanes that are asked in vain to take more, in one look: they may be as many as the cluster has cores."""

PRUNE_FACTOR: Final = 8
"""The queue is searched for what is worth a look when so many times the groups served in vain are left in it."""

_Entry = tuple[Rank, int, Group]


class Dispatch:
    """Places what can be placed."""

    def __init__(self, state: State, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts
        self._balance = Balance(state, attempts)
        self._preemption = Preemption(state, attempts)
        self._gangs = GangPlacer(state, attempts)

    def run(self) -> None:
        """Serve the groups that something changed for; again if that ended a hold on a worker."""
        state = self._state
        state.reservations.seat(state.cluster, state.wall)
        state.holds.review(state.now)
        if state.cluster.is_restless:
            state.holds.look_again()
        while state.cluster.is_restless:
            assigned = state.counts.attempts_assigned
            self._pass()
            state.holds.end_those_over()
            if state.counts.attempts_assigned != assigned:
                state.holds.look_again()

    def _pass(self) -> None:
        """Serve the groups that something changed for, from the lowest rank on."""
        cluster, pending = self._state.cluster, self._state.pending
        has_changed = cluster.has_changed
        if has_changed:
            cluster.has_changed = False
            cluster.stirred.update(dict.fromkeys(pending.groups))
        stirred, cluster.stirred = cluster.stirred, {}
        freed, cluster.freed = list(cluster.freed), {}
        if freed:
            cluster.indexes.note_freed(freed)
        waiting = pending.groups if freed else ()
        hopeful = dict.fromkeys(room for room in waiting if room not in stirred and _can_use(room, freed))
        queue: list[_Entry] = []
        for room in (*stirred, *hopeful):
            for group in pending.of_room(room):
                self._enqueue(group, queue)
        self._gangs.begin(freed, has_changed=has_changed)
        self._serve_all(queue, hopeful, freed=freed)
        self._gangs.place_before(None)
        self._balance.run(freed)
        # What opening lanes stirred in this pass has been served by it.
        cluster.stirred = {}

    def _serve_all(self, queue: list[_Entry], hopeful: dict[Room, None], *, freed: list[Worker]) -> None:
        """Serve groups by rank.

        The rooms of ``hopeful`` have been refused before and only hope for workers that were ``freed``. Where many
        shapes wait, the first few fill these up, so the others are passed over at little cost.
        """
        in_vain = 0
        while queue:
            noted, _, group = heappop(queue)
            rank = self._rank(group)
            if rank is None:
                continue
            if queue and rank > queue[0][0] and rank != noted:  # its queue has been given something since
                heappush(queue, (rank, len(queue), group))
                continue
            self._gangs.place_before(rank)
            if group.room in hopeful:
                if not _can_use(group.room, freed):
                    in_vain += 1
                    if PRUNE_FACTOR * in_vain >= len(queue):
                        in_vain = 0
                        queue[:] = [entry for entry in queue if _is_worth_a_look(entry[2].room, hopeful, freed)]
                        heapify(queue)
                    continue
                del hopeful[group.room]
            if self._serve(group, self._gangs.bound(queue[0][0] if queue else None)):
                self._enqueue(group, queue)

    def _enqueue(self, group: Group, queue: list[_Entry]) -> None:
        rank = self._rank(group)
        if rank is not None:
            heappush(queue, (rank, len(queue), group))

    def _rank(self, group: Group) -> Rank | None:
        head = group.head()
        return None if head is None else self._state.ordering.rank(group.stream, head.seq)

    def _serve(self, group: Group, bound: Rank | None) -> bool:
        """Place tasks of a group until it is empty, out of room, or behind ``bound``: true for the last."""
        cluster, room = self._state.cluster, group.room
        group.block = self._find_block(group)
        if group.block is not None:
            self._state.pending.waiting_for_room.pop(group, None)
            return False
        index = cluster.indexes.of(room)
        is_behind = self._place(group, index, bound)
        if room not in self._state.pending.groups:
            cluster.indexes.keep(room, index)
        else:
            cluster.indexes.kept.pop(room, None)
        if self._state.holds:  # who was kept from this group has room for others of its shape
            offer_to(room, self._state.holds.workers)
        return is_behind

    def _place(self, group: Group, index: RoomIndex, bound: Rank | None) -> bool:
        state, room = self._state, group.room
        has_room = self._room_for(group)
        is_capped = room.queue.is_capped or bool(group.stream.limits)
        # Each task may change whether the next may be placed: by a rank, by a cap, or because others run beside a hold.
        one_by_one = bound is not None or is_capped or bool(state.holds)
        while (head := group.head()) is not None:
            if bound is not None and state.ordering.rank(group.stream, head.seq) > bound:
                return True
            if is_capped:
                group.block = self._find_block(group)
                if group.block is not None:
                    return False
            count = 1 if one_by_one else min(group.size, AT_ONCE)
            if self._give_lanes(group, index, has_room, count=count) < count:
                if room.hungry and not (room.policy.looks_at_tasks or is_capped):
                    self._extend_lines(group, bound)
                self._refuse(group)
                self._preempt_for(group)
                return False
        return False

    def _give_lanes(self, group: Group, index: RoomIndex, has_room: HasRoom, *, count: int) -> int:
        """Give lanes of their own to up to so many tasks of a group; return how many had room."""
        lanes = self._state.cluster.open_lanes(group.room, choices(group, index, has_room, count=count))
        if lanes:
            self._attempts.assign(self._state.pending.take(group, len(lanes)), lanes, group.room)
            self._attempts.lines_grew(lanes)
        return len(lanes)

    def _preempt_for(self, group: Group) -> None:
        """Where the queue of a group may do that, make room for its first task, and keep it for that one."""
        head = group.head()
        if head is None or group.room.queue.settings.preempts_by is None:
            return
        worker = self._preemption.make_room(head, group.room)
        rank = self._rank(group)
        if worker is not None and rank is not None and group in self._state.pending.waiting_for_room:
            self._state.holds.hold(group, worker, head.seq, rank)

    def _find_block(self, group: Group) -> Reason | None:
        """Why a group may not be placed whoever has room: it is looked at again when that has changed."""
        room, limits = group.room, self._state.limits
        queue = room.queue
        if queue.is_capped and (reason := queue.find_block(room.shape.resources)) is not None:
            if reason is not Reason.PAUSED:  # that ends by a command, which looks at all of the queue
                queue.rooms[room] = None
            return reason
        if group.stream.limits and (limit := limits.find_full(group.stream.limits)) is not None:
            limit.rooms[room] = None
            return Reason.LIMIT
        return None

    def _room_for(self, group: Group) -> HasRoom:
        """Who may be given a lane for a group: whoever has room and is not kept for a higher priority."""
        holds, fits_now, rank = self._state.holds, group.room.fits_now, self._rank(group)
        if not holds or rank is None:
            return fits_now
        head = group.head()
        assert head is not None
        run_s, now = longest_run_s(group.room, head), self._state.now
        return lambda worker: fits_now(worker) and not holds.keeps_out(worker, group, rank, run_s=run_s, now=now)

    def _extend_lines(self, group: Group, bound: Rank | None) -> None:
        """Share the first tasks of a group among the hungry lanes of its shape.

        Cost: O(tasks placed), whatever the number of lanes and of those that can take nothing.
        """
        room, head = group.room, group.head()
        if head is None or room.run_times.estimate_s(head.terms.class_key) > LINE_S:
            return
        earlier = self._waiting_before(group)
        lanes = list(islice(room.hungry, group.size + IN_VAIN_MAX))
        in_vain = 0
        for index, lane in enumerate(lanes):
            share = -(-group.size // (len(lanes) - index))
            if not share or in_vain == IN_VAIN_MAX:
                return
            if not _may_extend(lane, earlier) or not self._fill(lane, group, bound=bound, share=share):
                in_vain += 1
                if lane in room.hungry:  # to the end, so that it does not keep the next look from others
                    room.hungry[lane] = room.hungry.pop(lane)

    def _fill(self, lane: Lane, group: Group, *, bound: Rank | None, share: int) -> int:
        """Put up to ``share`` tasks in a line; return how many it took."""
        most, taken = min(share, LINE_MAX - len(lane.line)), 0
        while taken < most and self._lengthen(lane, group, bound=bound):
            taken += 1
        if taken:
            self._attempts.lines_grew([lane])
        return taken

    def _lengthen(self, lane: Lane, group: Group, *, bound: Rank | None) -> bool:
        """Put the first task of a group in a line, if there is one that may go first and is short enough."""
        head = group.head()
        if head is None or (bound is not None and self._state.ordering.rank(group.stream, head.seq) > bound):
            return False
        estimate_s = group.room.run_times.estimate_s(head.terms.class_key)
        if lane.backlog_s + estimate_s > LINE_S:
            return False
        self._attempts.assign(self._state.pending.take(group, 1), [lane], group.room)
        return True

    def _waiting_before(self, group: Group) -> list[Room]:
        """The shapes of earlier tasks that wait for room: no line may be made longer on a worker that could have it."""
        rank = self._rank(group)
        assert rank is not None
        earlier = []
        for other in self._state.pending.waiting_for_room:
            other_rank = None if other is group else self._rank(other)
            if other_rank is not None and other_rank < rank:
                earlier.append(other.room)
        return earlier

    def _refuse(self, group: Group) -> None:
        """Note why the group waits, and that nobody behind it may prolong a hold on what it waits for."""
        if not group.size:
            return
        waiting, room = self._state.pending.waiting_for_room, group.room
        reason = self._state.cluster.refusal(room)
        if reason is Reason.RESOURCES:
            waiting.setdefault(group, self._state.now)
        else:
            waiting.pop(group, None)
        if reason is Reason.IMPOSSIBLE and room.impossible is None:
            self.watch_impossible(room)

    def watch_impossible(self, room: Room) -> None:
        """Look again when the tasks of a shape that wait now have waited long enough."""
        state = self._state
        last = max(task.seq for group in state.pending.of_room(room) for task in group.tasks())
        room.impossible = Impossible(room.shape, room.queue.name, last)
        state.timers.at(state.now + state.config.impossible_after_s, room.impossible)


def _may_extend(lane: Lane, earlier: list[Room]) -> bool:
    """A line must not keep a worker from an earlier task that waits for room there, nor get back what it shared."""
    return (
        not lane.is_shared and lane.worker.is_open and not any(room.could_ever_run_on(lane.worker) for room in earlier)
    )


def _can_use(room: Room, freed: list[Worker]) -> bool:
    """Say whether any of some workers has room."""
    for worker in freed:  # noqa: SIM110 - any() with a generator costs twice as much, once for every shape that waits
        if room.fits_now(worker):
            return True
    return False


def _is_worth_a_look(room: Room, hopeful: dict[Room, None], freed: list[Worker]) -> bool:
    return room not in hopeful or _can_use(room, freed)
