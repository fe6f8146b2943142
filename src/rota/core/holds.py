"""Workers that are kept for a task that waits, so that later ones don't overtake it for ever.

A task that needs much of a worker never finds it free while small ones take each bit of room as it
comes. So when a group of tasks has waited for room for some seconds, one worker is kept for it: groups that come
later in the order get a new lane there only if they don't delay it (`rota.core.backfill`), and no longer
lines, which nobody who waits allows anyway. The worker empties, the task fits, and the hold is over.

Nothing can wait in a circle: only who comes earlier in the order keeps anything from who comes later. Nothing is kept
for nothing: a worker without lanes has room for whatever it could ever run, so its holder is placed there at the
latest when the last lane closes; and a hold ends with its holder's wait or its worker's channel. The cost is the room
that stays empty meanwhile, on at most `HOLDS_MAX` workers, and those on which something was preempted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from rota.core.backfill import delays, shadow_of
from rota.core.cluster import Cluster, Room
from rota.core.model import TaskSeq
from rota.core.ordering import Ordering, Rank
from rota.core.pending import Group, PendingTasks
from rota.core.reservations import could_fit_beside
from rota.core.workers import Worker

__all__ = ["HOLDS_MAX", "HOLD_AFTER_S", "Holds"]

HOLD_AFTER_S: Final = 5.0
"""How long a group waits for room before a worker is kept for it: most room comes sooner by itself."""

HOLDS_MAX: Final = 4
"""Workers kept at once: bounds the room that stays empty, and the time that is spent on choosing."""

REVIEW_EVERY_S: Final = 1.0
"""How often it is looked who has waited for long: choosing a worker looks at each of them."""


class _Hold(Struct, frozen=True):
    """For whom a worker is kept: the first task of a group, and when it is thought to start there.

    Where something was preempted for it, all of lower priority are kept out, wherever they stand in the order: else a
    victim that has waited for long would take its place again, and be preempted again.
    """

    group: Group
    head: TaskSeq
    shadow: float
    has_preempted: bool = False

    @property
    def is_served(self) -> bool:
        """Whether its holder was placed in this pass: whoever comes after it in its group is no holder.

        Such a hold is let go of when the pass is over. Until then it keeps everybody out, its own group too: those
        who go first have been looked at already, and are again in the next pass.
        """
        head = self.group.head()
        return head is None or head.seq != self.head


class Holds:
    """Who keeps which worker."""

    def __init__(self, cluster: Cluster, pending: PendingTasks, ordering: Ordering) -> None:
        self._cluster = cluster
        self._pending = pending
        self._ordering = ordering
        self._holds: dict[Worker, _Hold] = {}
        self._review_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._holds)

    @property
    def workers(self) -> Iterable[Worker]:
        """The workers that are kept for somebody."""
        return self._holds

    def holders(self) -> dict[Worker, Group]:
        """Who is kept for whom."""
        return {worker: hold.group for worker, hold in self._holds.items()}

    def keeps_out(self, worker: Worker, group: Group, rank: Rank, *, run_s: float, now: float) -> bool:
        """Say whether a worker is kept for another task, which one of this group that runs so long might delay."""
        if not self.may_keep_out(worker, group, rank):
            return False
        hold = self._holds[worker]
        if hold.is_served or (hold.has_preempted and group.stream.priority < hold.group.stream.priority):
            return True
        return delays(worker, group.room, run_s, large=hold.group.room, shadow=hold.shadow, now=now)

    def may_keep_out(self, worker: Worker, group: Group, rank: Rank) -> bool:
        """Say whether a worker is kept for another task, so that this group goes first only without delaying it."""
        hold = self._holds.get(worker)
        if hold is None or (hold.group is group and not hold.is_served):
            return False
        return hold.is_served or self._goes_before(hold, rank, group.stream.priority)

    def keeps_gang_out(self, worker: Worker, rank: Rank, priority: int) -> bool:
        """Say whether a worker is kept from a gang: it does not go first, because nobody reckons when it ends."""
        hold = self._holds.get(worker)
        return hold is not None and (hold.is_served or self._goes_before(hold, rank, priority))

    def hold(self, group: Group, worker: Worker, head: TaskSeq, rank: Rank) -> None:
        """Keep a worker for the first task of a group at once: something there was preempted for it.

        It stays with whoever has a higher priority, or as high a one and came first, if that has preempted there, too.
        """
        before = self._holds.get(worker)
        if before is not None and before.has_preempted:
            theirs, ours = (-before.group.stream.priority, self._rank_of(before)), (-group.stream.priority, rank)
            if theirs <= ours:
                return
        if before is not None:
            self._let_go(worker)
        for other, hold in list(self._holds.items()):
            if hold.group is group:
                self._let_go(other)
        self._holds[worker] = _Hold(group, head, math.inf, has_preempted=True)

    def review(self, now: float) -> None:
        """End the holds that are over, and once a second see who else has waited for long.

        Cost of that: O(groups that wait), and O(workers) for each new hold.
        """
        self.end_those_over()
        if now < self._review_at or not self._pending.waiting_for_room:
            return
        self._review_at = now + REVIEW_EVERY_S
        for worker, hold in self._holds.items():
            self._holds[worker] = replace(hold, shadow=shadow_of(worker, hold.group.room, now))
            self._cluster.freed[worker] = None  # who would have delayed it may do so no longer
        for rank, group, head in self._long_waiting(now)[:HOLDS_MAX]:
            if not any(hold.group is group for hold in self._holds.values()):
                self._hold(group, head, rank, now=now)

    def look_again(self) -> None:
        """Have the workers that are kept looked at by all, where who goes before their holders may be others by now."""
        if self._holds and self._ordering.ranks_move:
            self._cluster.freed.update(dict.fromkeys(self._holds))

    def end_those_over(self) -> None:
        """Let go of workers that are kept for what no longer waits, or that can't be given anything now."""
        if not self._holds:  # asked twice a turn
            return
        for worker, hold in list(self._holds.items()):
            is_waiting = hold.group in self._pending.waiting_for_room and not hold.is_served
            if not is_waiting or not _will_have_room(worker, hold.group.room):
                self._let_go(worker)

    def _long_waiting(self, now: float) -> list[tuple[Rank, Group, TaskSeq]]:
        """Those of them that others could overtake, from the lowest rank on: who needs less of something could."""
        least: dict[str, int] = {}
        for room in self._cluster.rooms.values():
            for name, amount in room.shape.resources:
                least[name] = min(amount, least.get(name, amount))
        found = []
        for group, since in self._pending.waiting_for_room.items():
            head = group.head()
            needs_more = any(amount > least[name] for name, amount in group.room.shape.resources)
            if head is not None and needs_more and now - since >= HOLD_AFTER_S:
                found.append((self._ordering.rank(group.stream, head.seq), group, head.seq))
        found.sort(key=lambda item: item[0])
        return found

    def _hold(self, group: Group, head: TaskSeq, rank: Rank, *, now: float) -> None:
        """Keep the worker that has most of what the group needs, if need be instead of a later group."""
        holds, room = self._holds, group.room
        able = [
            worker
            for worker in self._cluster.workers.values()
            if _will_have_room(worker, room) and (worker not in holds or self._rank_of(holds[worker]) > rank)
        ]
        if not able:
            return
        best = max(able, key=lambda worker: (worker not in holds, _share_free(worker, room), -worker.number))
        if best in holds:
            self._let_go(best)
        elif len(holds) >= HOLDS_MAX:  # then one of them is not among the first any more
            self._let_go(max(holds, key=lambda worker: self._rank_of(holds[worker])))
        holds[best] = _Hold(group, head, shadow_of(best, room, now))

    def _goes_before(self, hold: _Hold, rank: Rank, priority: int) -> bool:
        """Whether its holder goes before somebody of this rank and priority."""
        return self._rank_of(hold) < rank or (hold.has_preempted and priority < hold.group.stream.priority)

    def _rank_of(self, hold: _Hold) -> Rank:
        """The rank of its holder now: in ``fair`` order it is another whenever the share of its queue is."""
        return self._ordering.rank(hold.group.stream, hold.head)

    def _let_go(self, worker: Worker) -> None:
        del self._holds[worker]
        self._cluster.freed[worker] = None  # those who were kept out may have room there now


def _will_have_room(worker: Worker, room: Room) -> bool:
    """Say whether a worker takes a task of the shape as soon as it is empty."""
    return (
        worker.is_open
        and worker.quarantined < worker.max_tasks
        and room.could_ever_run_on(worker)
        and (not worker.kept or could_fit_beside(worker, room))
    )


def _share_free(worker: Worker, room: Room) -> tuple[bool, float]:
    """How much of what a shape needs is free: whether the cards are, and of the scarcest amount 0.0 to 1.0."""
    free = worker.ledger.free
    has_cards = worker.ledger.devices.find(room.cards, room.memory_mib) is not None
    shares = (free.get(name, 0) / amount for name, amount in room.plain if amount)
    return has_cards, min(1.0, min(shares, default=1.0))
