"""Placing gangs: all members in one turn, each in a lane of its own, or none.

Nothing is reserved while a gang waits, so two gangs can't wait for each other. The price: small tasks may take each bit
of room before there is enough for all. Where that matters give the gang a higher priority; `has_room_for` is
the one place that asks whether a worker is kept for somebody, for whoever keeps workers for gangs.

Members are seated one by one, those that ask for most first, by the placement policy; if one finds no seat the
others get up again. That is exact for members of one shape. For several it is the usual heuristic: it may miss a
packing that just fits. Cost: O(members) choices for each look, and a look only when a worker gained room that
one of its shapes can use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush

from rota.core.attempts import Attempts
from rota.core.cluster import Room
from rota.core.gangs import Gang
from rota.core.indexes import offer_to
from rota.core.model import Reason
from rota.core.ordering import Rank, stream_of
from rota.core.protocol import GangSeats, Seat
from rota.core.resources import Ledger
from rota.core.state import State
from rota.core.task import Task
from rota.core.timers import GangImpossible
from rota.core.workers import Lane, Worker

__all__ = ["GangPlacer", "could_ever_fit", "gang_verdict"]


class GangPlacer:
    """Places the gangs that wait for room, in their turn among the groups of a pass."""

    def __init__(self, state: State, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts
        self._todo: list[tuple[Rank, int, Gang]] = []

    def begin(self, freed: Sequence[Worker], *, has_changed: bool) -> None:
        """Note which gangs this pass should look at: new ones, and those that could use what was freed."""
        self._todo = []
        for gang in self._state.gangs.complete:
            if (
                gang.is_new
                or has_changed
                or gang.block is not None
                or any(self._can_use(room, freed) for room in self._rooms(gang))
            ):
                heappush(self._todo, (self._rank(gang), len(self._todo), gang))

    def bound(self, rank: Rank | None) -> Rank | None:
        """How far groups may be served before a gang's turn comes: ``rank`` if none comes before."""
        if not self._todo:
            return rank
        first = self._todo[0][0]
        return first if rank is None or first < rank else rank

    def place_before(self, rank: Rank | None) -> None:
        """Look at the gangs that come before a rank, or at all."""
        while self._todo and (rank is None or self._todo[0][0] < rank):
            _, _, gang = heappop(self._todo)
            gang.is_new = False
            self._place(gang)

    # Helpers

    def _place(self, gang: Gang) -> None:
        gang.block = self._find_block(gang)
        if gang.block is not None:
            return
        lanes = self._seat_all(gang)
        if lanes is None:
            self._refuse(gang)
            return
        self._state.gangs.placed(gang)
        tasks = gang.in_order()
        for task in tasks:
            lane = lanes[task.seq]
            self._attempts.release(task)
            self._attempts.assign([task], [lane], lane.room)
            self._attempts.lines_grew([lane])
        self._tell_seats(gang, tasks)

    def _find_block(self, gang: Gang) -> Reason | None:
        """Why not all members may be placed, whoever has room: a pause, or a cap of a queue or of the cluster."""
        rooms: Counter[Room] = Counter()
        wanted: Counter[str] = Counter()
        for task in gang.members.values():
            rooms[self._state.cluster.room_of(task.terms)] += 1
            wanted.update(dict(task.terms.limits))
        limit = self._state.limits.find_full(tuple(sorted(wanted.items()))) if wanted else None
        if limit is not None:
            limit.rooms.update(dict.fromkeys(rooms))
            return Reason.LIMIT
        for queue in dict.fromkeys(room.queue for room in rooms if room.queue.is_capped):
            own = {room: count for room, count in rooms.items() if room.queue is queue}
            need: Counter[str] = Counter()
            for room, count in own.items():
                need.update({name: amount * count for name, amount in room.shape.resources})
            reason = queue.find_block(tuple(sorted(need.items())))
            most = queue.settings.max_running
            if reason is None and most is not None and queue.running + sum(own.values()) > most:
                reason = Reason.QUOTA
            if reason is not None:
                queue.rooms.update(dict.fromkeys(own))
                return reason
        return None

    def _seat_all(self, gang: Gang) -> dict[int, Lane] | None:
        """Open a lane for each member, or for none."""
        cluster = self._state.cluster
        lanes: dict[int, Lane] = {}
        for room, task in self._hardest_first(gang):
            index = cluster.indexes.of(room)
            key = room.policy.key_of(task) if room.policy.looks_at_tasks else ""
            worker = index.choose(key, self.has_room_for(room, gang))
            cluster.indexes.keep(room, index)
            if worker is None:
                gang.fits = len(lanes)
                self._get_up(gang, list(lanes.values()))
                return None
            [lanes[task.seq]] = cluster.open_lanes(room, [(worker, key)])
        self._offer_kept(gang)
        return lanes

    def has_room_for(self, room: Room, gang: Gang) -> Callable[[Worker], bool]:
        """Who may be given a lane for a member: whoever has room and is not kept for a higher priority."""
        holds, fits_now = self._state.holds, room.fits_now
        if not holds:
            return fits_now
        rank, priority = self._rank(gang), gang.members[min(gang.members)].terms.priority
        return lambda worker: fits_now(worker) and not holds.keeps_gang_out(worker, rank, priority)

    def _get_up(self, gang: Gang, lanes: Sequence[Lane]) -> None:
        """Close lanes again as if they had never been: what room they give back was there before."""
        touched = dict.fromkeys(lane.worker for lane in lanes)
        for lane in lanes:
            self._state.cluster.close_lane(lane, in_vain=True)
        for room in self._rooms(gang):
            offer_to(room, touched)
        self._offer_kept(gang)

    def _offer_kept(self, gang: Gang) -> None:
        """Who was kept from this gang has room for others of its shapes."""
        for room in self._rooms(gang):
            offer_to(room, self._state.holds.workers)

    def _refuse(self, gang: Gang) -> None:
        """Note since when nobody could ever hold the gang, if that is so."""
        state = self._state
        if gang_verdict(state, gang) is not Reason.IMPOSSIBLE:
            gang.impossible = None
        elif gang.impossible is None:
            gang.impossible = GangImpossible(gang.name)
            state.timers.at(state.now + state.config.impossible_after_s, gang.impossible)

    def _tell_seats(self, gang: Gang, tasks: Sequence[Task]) -> None:
        """Let each worker know the ranks of its members, and where the others are."""
        seats: dict[Worker, list[Seat]] = {}
        hosts = []
        for rank, task in enumerate(tasks):
            assert task.run is not None
            worker = task.run.lane.worker
            hosts.append(worker.offer.addr or worker.offer.host or worker.id)
            seats.setdefault(worker, []).append(Seat(task.seq, task.attempt, rank))
        for worker, taken in seats.items():
            assert worker.session is not None
            self._state.notes.gangs.setdefault(worker.session, []).append(GangSeats(gang.terms.id, tuple(hosts), taken))

    def _hardest_first(self, gang: Gang) -> list[tuple[Room, Task]]:
        """Members with their rooms: those that need cards or tags or much come before those that fit anywhere."""
        seated = [(self._state.cluster.room_of(task.terms), task) for task in gang.in_order()]
        seated.sort(key=lambda pair: _hardness(pair[0]), reverse=True)
        return seated

    def _rooms(self, gang: Gang) -> Iterator[Room]:
        for terms in gang.kinds:
            yield self._state.cluster.room_of(terms)

    def _rank(self, gang: Gang) -> Rank:
        first = gang.members[min(gang.members)]
        return self._state.ordering.rank(stream_of(first.terms), first.seq)

    def _can_use(self, room: Room, freed: Sequence[Worker]) -> bool:
        return any(room.fits_now(worker) for worker in freed)


def gang_verdict(state: State, gang: Gang) -> Reason:
    """Say why a gang waits whose members are all ready: for room, or for what no known workers could ever give."""
    rooms = [state.cluster.room_of(terms) for terms in gang.kinds]
    for room in rooms:
        reason = state.cluster.refusal(room)
        if reason is not Reason.RESOURCES:
            return reason
    return Reason.GANG if could_ever_fit(state, gang) == gang.size else Reason.IMPOSSIBLE


def could_ever_fit(state: State, gang: Gang) -> int:
    """How many members the known workers could hold together if they were empty. Kept until workers change.

    Cost: O(workers that are needed), O(workers) if they are not enough.
    """
    if gang.verdict is None or gang.verdict[0] != state.cluster.version:
        gang.verdict = (state.cluster.version, _count_fitting(state, gang))
    return gang.verdict[1]


def _count_fitting(state: State, gang: Gang) -> int:
    left = [state.cluster.room_of(task.terms) for task in gang.in_order()]
    left.sort(key=_hardness, reverse=True)
    for worker in state.cluster.workers.values():
        if not left:
            break
        left = _left_over(worker, left)
    return gang.size - len(left)


def _left_over(worker: Worker, rooms: Sequence[Room]) -> list[Room]:
    """Put on an empty worker what it can hold, and return the rest."""
    ledger = Ledger(worker.offer.resources, worker.offer.gpus)
    left, taken = [], 0
    for room in rooms:
        devices = ledger.devices.find(room.cards, room.memory_mib)
        if taken < worker.max_tasks and devices is not None and room.accepts(worker) and ledger.fits(room.plain):
            ledger.reserve(room.plain)
            ledger.devices.take(devices, room.cards, room.memory_mib)
            taken += 1
        else:
            left.append(room)
    return left


def _hardness(room: Room) -> tuple[int, int, int, tuple[int, ...]]:
    return room.cards, room.memory_mib, len(room.shape.tags), tuple(amount for _, amount in room.plain)
