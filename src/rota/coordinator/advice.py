"""Placement alone, with a clock: the desk at which workers of somebody's own report, and tasks are given to them.

It has nothing to do with the loop and the store: it answers at once while a commit is under way, and goes on while
the store takes no writes.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

import structlog

from rota.coordinator.service import NodeView
from rota.core.advisor.advisor import Advisor
from rota.core.advisor.demands import Demand
from rota.core.advisor.model import AdvisedWorker, Beat, Granted, Ticket
from rota.core.config import SchedulerConfig
from rota.core.errors import Unavailable
from rota.core.model import Offer, WorkerId, WorkerState
from rota.process.clock import steady_s, wall_s

__all__ = ["AdviceDesk", "RoomWish"]

PULSE_S: Final = 0.25
"""How often we see that we live."""

STALL_S: Final = 0.5
"""A standstill of ours that is longer is credited to the workers, who could not be heard."""

log = structlog.get_logger(__name__)


class RoomWish:
    """Somebody who waits for room: `outcome` is a worker, or ``None`` when the time is over."""

    __slots__ = ("_granted", "ticket")

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self._granted: asyncio.Future[AdvisedWorker] = asyncio.get_running_loop().create_future()

    async def outcome(self, timeout_s: float) -> AdvisedWorker | None:
        """Wait.

        Raises:
            Unavailable: The coordinator is stopping.
        """
        await asyncio.wait((self._granted,), timeout=timeout_s)
        return self._granted.result() if self._granted.done() else None

    def grant(self, worker: AdvisedWorker) -> None:
        """End the wait with a worker."""
        if not self._granted.done():
            self._granted.set_result(worker)

    def refuse(self, error: Unavailable) -> None:
        """End the wait without one."""
        if not self._granted.done():
            self._granted.set_exception(error)
            self._granted.exception()  # looked at: the one who waits may have gone


class AdviceDesk:
    """Hands the advisor what comes, with the time, and what it grants to those who wait."""

    def __init__(self, config: SchedulerConfig) -> None:
        self._advisor = Advisor(config, random.Random(f"{config.seed}/advice"))
        self._wishes: dict[Ticket, RoomWish] = {}
        self._alive_at = steady_s()
        self._is_stopping = False
        self.demand = self._advisor.demand
        """What a request asks for: to be used at once."""

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return self._advisor.waiting

    def heartbeat(self, beat: Beat) -> None:
        """Believe a worker.

        Raises:
            Overloaded: There are too many.
        """
        self._grant(self._advisor.heartbeat(beat, now=self._now(), wall=wall_s()))

    def advise(self, demand: Demand) -> AdvisedWorker | None:
        """Choose a worker and count the task on it; ``None`` if none has room."""
        return self._advisor.advise(demand, now=self._now())

    def queue(self, demand: Demand, *, priority: int) -> RoomWish:
        """Wait for room; who does must `leave` in the end.

        Raises:
            Overloaded: Too many wait.
            Unavailable: The coordinator is stopping.
        """
        if self._is_stopping:
            raise _stopping()
        wish = RoomWish(self._advisor.wait(demand, priority=priority))
        self._wishes[wish.ticket] = wish
        return wish

    def leave(self, wish: RoomWish) -> None:
        """Wait no longer, whether room was granted or not."""
        self._wishes.pop(wish.ticket, None)
        self._advisor.withdraw(wish.ticket)

    def workers(self) -> list[tuple[AdvisedWorker, WorkerState]]:
        """All workers that are known, in order of their ids, and how they are."""
        now = self._now()
        state_of = self._advisor.state_of
        return [(worker, state_of(worker, now=now)) for _, worker in sorted(self._advisor.workers.items())]

    def count_by_state(self) -> dict[WorkerState, int]:
        """How many workers are how."""
        counted = Counter(state for _, state in self.workers())
        return {state: counted[state] for state in (WorkerState.ONLINE, WorkerState.SUSPICIOUS, WorkerState.OFFLINE)}

    def nodes(self) -> list[NodeView]:
        """The workers as they are listed beside our own."""
        now = self._now()
        return [_view(worker, state, now) for worker, state in self.workers()]

    def find_node(self, worker_id: str) -> NodeView | None:
        """One of them."""
        worker = self._advisor.workers.get(worker_id)
        if worker is None:
            return None
        now = self._now()
        return _view(worker, self._advisor.state_of(worker, now=now), now)

    async def run(self) -> None:
        """Show signs of life, and forget who is gone for good, until cancelled."""
        while True:
            self.pulse()
            await asyncio.sleep(PULSE_S)

    def pulse(self) -> None:
        """Note that we live now."""
        self._alive_at = self._now()
        self._advisor.forget(now=self._alive_at)

    def stop(self) -> None:
        """Send away all who wait."""
        self._is_stopping = True
        for wish in self._wishes.values():
            wish.refuse(_stopping())

    def _now(self) -> float:
        """The time; if we have stood still until now, that is made good first, before anybody is judged by it."""
        now = steady_s()
        lag_s = now - self._alive_at - PULSE_S
        if lag_s >= STALL_S:
            self._alive_at = now
            if self._advisor.workers:
                log.warning("advice_stalled", seconds=round(lag_s, 3))
            self._grant(self._advisor.credit(lag_s, now=now))
        return now

    def _grant(self, granted: Sequence[Granted]) -> None:
        for one in granted:
            wish = self._wishes.get(one.ticket)
            if wish is not None:
                wish.grant(one.worker)


def _stopping() -> Unavailable:
    return Unavailable("the coordinator is stopping: try again in a moment", code="stopping")


def _view(worker: AdvisedWorker, state: WorkerState, now: float) -> NodeView:
    return NodeView(
        id=WorkerId(worker.id),
        instance="",
        state=state,
        offer=Offer(
            resources=tuple(sorted((worker.free or {}).items())),
            tags=worker.group.tags,
            max_tasks=worker.max_tasks,
            kinds=frozenset(),
            addr=worker.address,
        ),
        used={},
        tasks=worker.current_tasks,
        quarantined_slots=0,
        drained=False,
        registered_at=worker.first_heard_at,
        last_seen_s=max(0.0, now - worker.last_seen),
        usage=None,
        kind="placement-only",
    )
