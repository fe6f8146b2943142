"""Queues and limits as operators see and set them: what is set, what waits, and what is in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from rota.coordinator.loop import Loop
from rota.core.commands import SetLimit, SetQueue, SetReservation
from rota.core.effects import SettingDone
from rota.core.errors import BadSpec, Conflict, NotFound
from rota.core.limits import Limit
from rota.core.placement.policies import check_placement
from rota.core.queues import Queue, QueueSettings
from rota.core.reservations import Reservation
from rota.core.spec import TaskRequest
from rota.core.state import State

__all__ = ["LimitView", "QueueView", "ReservationView", "Shares", "check_limits"]


class QueueView(Struct, frozen=True):
    """A queue: what is set, how many of its tasks wait for a worker, how many attempts are live, what these use."""

    name: str
    settings: QueueSettings
    pending: int
    running: int
    used: dict[str, int]


class LimitView(Struct, frozen=True):
    """A limit: how much there is, how much live attempts hold, how many tasks that name it wait for a worker."""

    name: str
    size: int
    used: int
    pending: int


class Shares:
    """Reads and changes the queues and limits of the coordinator that serves now."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def queues(self) -> list[QueueView]:
        """All queues that are set, or that tasks have named since the start, in order of their names."""
        state = self._loop.scheduler().state
        pending = Counter[str]()
        for group in state.pending.all_groups():
            pending[group.stream.queue] += group.size
        return [_view_queue(queue, pending[queue.name]) for queue in state.queues.all()]

    def queue(self, name: str) -> QueueView:
        """One of them. Raises `NotFound`."""
        for queue in self.queues():
            if queue.name == name:
                return queue
        raise NotFound(f"there is no queue {name!r}: no task has named it, and nobody has set it")

    async def set_queue(self, name: str, settings: QueueSettings | None) -> tuple[QueueView | None, bool]:
        """Set a queue, or forget what was set of it; return it and whether it had been set. Raises `BadRequest`."""
        if settings is not None and settings.placement is not None:
            check_placement(settings.placement, self._loop.policies)
        of = self._loop.scheduler()
        done = await self._loop.ask(lambda to: SetQueue(name, settings, to), SettingDone, of=of)
        return (self.queue(name) if settings is not None else None), done.existed

    def limits(self) -> list[LimitView]:
        """All limits, in order of their names."""
        state = self._loop.scheduler().state
        pending = Counter[str]()
        for group in state.pending.all_groups():
            for name, _ in group.stream.limits:
                pending[name] += group.size
        return [_view_limit(limit, pending[limit.name]) for limit in state.limits.all()]

    def limit(self, name: str) -> LimitView:
        """One of them. Raises `NotFound`."""
        for limit in self.limits():
            if limit.name == name:
                return limit
        raise NotFound(f"there is no limit {name!r}")

    def reservations(self) -> list[ReservationView]:
        """All reservations that are not over, in order of their names."""
        state = self._loop.scheduler().state
        workers = state.cluster.workers.values()
        return [
            ReservationView(
                name, one, sorted(worker.id for worker in workers if any(kept.name == name for kept in worker.kept))
            )
            for name, one in state.reservations.all()
        ]

    def reservation(self, name: str) -> ReservationView:
        """One of them. Raises `NotFound`."""
        for view in self.reservations():
            if view.name == name:
                return view
        raise NotFound(f"there is no reservation {name!r}, or its time is over")

    async def set_reservation(self, name: str, reservation: Reservation | None) -> bool:
        """Reserve, or end a reservation; return whether there was one of this name. Raises `NotFound`, `Conflict`."""
        of = self._loop.scheduler()
        done = await self._loop.ask(lambda to: SetReservation(name, reservation, to), SettingDone, of=of)
        if done.problem is not None:
            raise Conflict(f"there is a reservation {name!r} already: {done.problem}")
        if reservation is None and not done.existed:
            raise NotFound(f"there is no reservation {name!r}, or its time is over")
        return done.existed

    async def set_limit(self, name: str, size: int | None) -> bool:
        """Set a limit, or remove it; return whether it was there. Raises `Conflict` where tasks still name it."""
        of = self._loop.scheduler()
        done = await self._loop.ask(lambda to: SetLimit(name, size, to), SettingDone, of=of)
        if done.problem is not None:
            raise Conflict(f"the limit {name!r} can't be removed: {done.problem}")
        if size is None and not done.existed:
            raise NotFound(f"there is no limit {name!r}")
        return done.existed


class ReservationView(Struct, frozen=True):
    """A reservation, and the workers on which it is in force."""

    name: str
    reservation: Reservation
    workers: list[str]


def check_limits(requests: Sequence[TaskRequest], state: State, *, is_array: bool = False) -> None:
    """See that tasks name limits that there are, and no more of one than there is.

    Raises:
        BadSpec: They don't; names the index if an array was sent.
    """
    for index, request in enumerate(requests):
        for name, amount in request.limits.items() if request.limits else ():
            limit = state.limits.find(name)
            at = index if is_array else None
            if limit is None:
                known = ", ".join(each.name for each in state.limits.all())
                hint = f"there are {known}" if known else "there is none: set it with `rota limits set NAME COUNT`"
                raise BadSpec("limits", f"there is no limit {name!r}; {hint}", index=at)
            if amount > limit.size:
                raise BadSpec("limits", f"{amount:,} of {name} were asked for: there are {limit.size:,}", index=at)


def _view_queue(queue: Queue, pending: int) -> QueueView:
    used = {name: amount for name, amount in sorted(queue.used.items()) if amount}
    return QueueView(queue.name, queue.settings, pending, queue.running, used)


def _view_limit(limit: Limit, pending: int) -> LimitView:
    return LimitView(limit.name, limit.size, limit.used, pending)
