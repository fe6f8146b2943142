"""Says which of somebody's own workers should have a task: the one with the lowest ratio of current to max tasks.

Workers are known from their heartbeats alone. A task that was given is counted at once; the next heartbeat, which
knows better, corrects the count. A worker that is silent gets nothing. Nothing of this is ever written down: after a
restart it is there again when each worker has sent one heartbeat. Who finds no room may wait for it.

No clock and no chance of its own: every call has the time, ties are drawn from a generator that is handed in.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import count
from typing import Final

from rota.core.advisor.demands import Demand, Demands
from rota.core.advisor.index import RankIndex
from rota.core.advisor.model import AdvisedWorker, Beat, Granted, Ticket
from rota.core.config import SchedulerConfig
from rota.core.errors import Overloaded
from rota.core.model import WorkerState

__all__ = ["WAITERS_MAX", "WORKERS_MAX", "Advisor"]

WORKERS_MAX: Final = 20_000
"""Four times what is asked of us; over it, those that are offline are forgotten, the longest silent first."""

WAITERS_MAX: Final = 10_000
"""Requests that wait for room, each with a connection of its own."""


class Advisor:
    """Knows the workers, and who waits for them.

    Args:
        config: How long a worker may be silent, and how long it stays in the list.
        rng: Seeded by the caller.
    """

    def __init__(self, config: SchedulerConfig, rng: random.Random) -> None:
        self.workers: dict[str, AdvisedWorker] = {}
        """By id, in the order in which they were last heard."""
        self._config = config
        self._suspicious_after_s = config.suspicious_after_s
        self._demands = Demands(rng)
        self._waiting: dict[Ticket, Demand] = {}
        self._numbers = count(1)
        self._tickets = count(1)
        self._turns = count(1)

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiting)

    # From workers

    def heartbeat(self, beat: Beat, *, now: float, wall: float) -> list[Granted]:
        """Believe a worker, and give what room it has to those who wait.

        Args:
            beat: What it says.
            now: Steady seconds.
            wall: Seconds since 1970, for people.

        Raises:
            Overloaded: There are too many workers, all of them alive.
        """
        worker = self.workers.pop(beat.worker_id, None)
        if worker is None:
            worker = self._admit(beat, now=now, wall=wall)
        elif worker.group.tags != beat.tags:
            self._demands.leave(worker)
            self._join(worker, beat.tags)
        self.workers[worker.id] = worker
        worker.take_in(beat, now=now, wall=wall)
        return self._offer(worker)

    # From those who have tasks

    def demand(self, tags: list[str], *, resources: Mapping[str, int] | None, placement: str) -> Demand:
        """Return what a request asks for, to be used before the next heartbeat.

        Raises:
            TagSyntaxError: A tag is an expression that makes no sense.
            Overloaded: Requests of too many different kinds wait.
        """
        return self._demands.find(tags, resources, placement, len(self.workers))

    def advise(self, demand: Demand, *, now: float) -> AdvisedWorker | None:
        """Choose a worker and count the task on it; ``None`` if none has room. O(1), whatever their number."""
        heard_after = now - self._suspicious_after_s
        for index in demand.tiers:
            worker = index.find(heard_after=heard_after)
            if worker is not None:
                self._give(worker, demand, index)
                return worker
        return None

    def wait(self, demand: Demand, *, priority: int) -> Ticket:
        """Wait for room, after `advise` had none: a heartbeat grants it.

        Raises:
            Overloaded: Too many wait already.
        """
        if len(self._waiting) >= WAITERS_MAX:
            raise Overloaded(f"{WAITERS_MAX:,} requests wait for room already: try again in a moment")
        ticket = Ticket(next(self._tickets))
        demand.queue(ticket, priority)
        self._waiting[ticket] = demand
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Wait no longer; nothing happens if the worker is granted already."""
        demand = self._waiting.pop(ticket, None)
        if demand is not None:
            del demand.waiting[ticket]

    # From the clock

    def credit(self, lag_s: float, *, now: float) -> list[Granted]:
        """Credit our own standstill to every worker: nobody could be heard. Who thereby is online again has room."""
        granted: list[Granted] = []
        for worker in self.workers.values():
            worker.last_seen = min(now, worker.last_seen + lag_s)
            if self.state_of(worker, now=now) is WorkerState.ONLINE:
                granted += self._offer(worker)
        return granted

    def forget(self, *, now: float) -> None:
        """Forget who has been silent for very long; cheap while nobody has."""
        while self.workers:
            longest_silent = next(iter(self.workers.values()))
            if now - longest_silent.last_seen < self._config.forget_after_s:
                return
            self._remove(longest_silent)

    def state_of(self, worker: AdvisedWorker, *, now: float) -> WorkerState:
        """Say whether a worker is online, suspicious or offline."""
        silent_s = now - worker.last_seen
        if silent_s < self._suspicious_after_s:
            return WorkerState.ONLINE
        return WorkerState.SUSPICIOUS if silent_s < self._config.offline_after_s else WorkerState.OFFLINE

    def check_invariants(self, *, now: float) -> None:
        """See that both sides of each relation agree, and that nobody is missing where it could be found."""
        for worker in self.workers.values():
            assert worker in worker.group.members
            for _, index in self._demands.places(worker):
                filed = {filed: rank for rank, filed in index.ranked()}
                if index.has_room(worker) and self.state_of(worker, now=now) is WorkerState.ONLINE:
                    assert worker in filed, f"{worker.id} has room and can't be found"
        for demand in self._demands:
            assert not demand.waiting or demand.first_waiting() is not None
            assert all(self._waiting[ticket] is demand for ticket in demand.waiting)
        assert sum(len(demand.waiting) for demand in self._demands) == len(self._waiting)

    # Helpers

    def _admit(self, beat: Beat, *, now: float, wall: float) -> AdvisedWorker:
        if len(self.workers) >= WORKERS_MAX:
            longest_silent = next(iter(self.workers.values()))
            if self.state_of(longest_silent, now=now) is not WorkerState.OFFLINE:
                raise Overloaded(f"{WORKERS_MAX:,} workers send heartbeats already: no more are taken")
            self._remove(longest_silent)
        group = self._demands.join(beat.tags)
        worker = AdvisedWorker(beat.worker_id, number=next(self._numbers), group=group, wall=wall)
        group.members[worker] = None
        return worker

    def _join(self, worker: AdvisedWorker, tags: frozenset[str]) -> None:
        worker.group = self._demands.join(tags)
        worker.group.members[worker] = None

    def _remove(self, worker: AdvisedWorker) -> None:
        del self.workers[worker.id]
        self._demands.leave(worker)

    def _give(self, worker: AdvisedWorker, demand: Demand, index: RankIndex) -> None:
        worker.give(demand.resources)
        if demand.placement == "round-robin":
            worker.turn = next(self._turns)
        index.refile(worker)
        for other in self._demands.rising(worker):
            if other is not index:
                other.offer(worker)

    def _offer(self, worker: AdvisedWorker) -> list[Granted]:
        """Tell everybody of a worker that may have room, and serve those who wait for it."""
        places = self._demands.places(worker)
        for _, index in places:
            index.offer(worker)
        granted: list[Granted] = []
        while self._waiting:
            able = ((demand, index) for demand, index in places if demand.waiting and index.has_room(worker))
            first = min(((demand.first_waiting(), demand, index) for demand, index in able), key=_rank, default=None)
            if first is None:
                break
            rank, demand, index = first
            assert rank is not None
            self.withdraw(rank[1])
            self._give(worker, demand, index)
            granted.append(Granted(rank[1], worker))
        return granted


def _rank(found: tuple[tuple[int, Ticket] | None, Demand, RankIndex]) -> tuple[int, Ticket]:
    assert found[0] is not None
    return found[0]
