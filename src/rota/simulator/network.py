"""Channels between workers and a coordinator: in order each way, late, and breaking in every way they break.

- *closed*: one end closes; what it sent before still arrives, then the other end hears of it.
- *cut*: what is on its way is lost; each end hears of it, at its own time.
- *dead*: what is on its way and all that follows is lost, and nobody hears of it for a long time (half-open).

While there is *trouble*, single messages are late, come twice, or are lost. On a connection in order nothing is lost
alone: where one message is, the channel is cut or dead from there on, and what it carried is sent again on the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct

from rota.core.protocol import (
    FromCoordinator,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    Leaving,
    Recall,
    Report,
    ReportAck,
    SlotsLost,
    Stop,
)
from rota.simulator.pace import Range
from rota.simulator.world import World

__all__ = ["CoordinatorEnd", "SimulatedLink", "Trouble", "WorkerEnd"]

M = TypeVar("M")

NOTICED_S: Final = (0.001, 1.0)
"""Until an end hears of a cut."""

GIVEN_UP_S: Final = (20.0, 60.0)
"""Until the system gives a dead connection up."""


class WorkerEnd(Protocol):
    """What a worker hears."""

    def received(self, link: SimulatedLink, message: FromCoordinator) -> None: ...

    def lost(self, link: SimulatedLink) -> None: ...


class CoordinatorEnd(Protocol):
    """What a coordinator hears."""

    def received(self, link: SimulatedLink, message: FromWorker) -> None: ...

    def lost(self, link: SimulatedLink) -> None: ...


REPEATABLE: Final = (Heartbeat, HeartbeatAck, Leaving, Recall, Report, ReportAck, SlotsLost, Stop)
"""What one end or the other sends again when it is not sure, so that it may come twice, and late."""

REPEATED_PART: Final = 0.3
REPEATED_S: Final = (0.001, 2.0)


class Trouble(Struct, frozen=True):
    """What becomes of messages: which parts of them are lost, come twice, or take longer, by how many seconds."""

    lost_part: float = 0.0
    repeated_part: float = 0.0
    late_part: float = 0.0
    late_s: Range = (0.0, 0.0)


REPEATING: Final = Trouble(repeated_part=REPEATED_PART)


class _Pipe(Generic[M]):
    """One direction. Nothing overtakes, but for what is sent again where there is such trouble.

    ``lose`` is called where a message is lost, instead of anything else.
    """

    __slots__ = ("_arrives_at", "_deliver", "_end", "_lose", "_world", "is_dead", "lag_s", "troubles")

    def __init__(
        self, world: World, deliver: Callable[[M], None], *, end: Callable[[], None], lose: Callable[[], None]
    ) -> None:
        self._world = world
        self._deliver = deliver
        self._end = end
        self._lose = lose
        self._arrives_at = 0.0
        self.is_dead = False
        self.lag_s: Range = (0.0, 0.0)
        self.troubles: Sequence[Trouble] = ()

    def send(self, message: M) -> None:
        world = self._world
        lag_s = 0.0
        for trouble in () if self.is_dead else self.troubles:
            if trouble.lost_part and world.chance(trouble.lost_part):
                self._lose()
                return
            if trouble.late_part and world.chance(trouble.late_part):
                lag_s += world.draw(trouble.late_s)
        world.at(self._arrival(lag_s), lambda: self._arrive(message))
        for trouble in self.troubles:
            if trouble.repeated_part and isinstance(message, REPEATABLE) and world.chance(trouble.repeated_part):
                late_s = self._arrives_at - world.now + world.between(*REPEATED_S)
                world.after(late_s, lambda: self._arrive(message))

    def close(self) -> None:
        """Let the other end hear of it after what was sent before."""
        self._world.at(self._arrival(0.0), lambda: None if self.is_dead else self._end())

    def _arrive(self, message: M) -> None:
        if not self.is_dead:
            self._deliver(message)

    def _arrival(self, lag_s: float) -> float:
        """Draw when what is sent now arrives: not before what was sent before it."""
        world = self._world
        pace = world.pace
        is_late = pace.late_part and world.chance(pace.late_part)
        takes_s = lag_s + world.draw(pace.late_s if is_late else pace.delay_s)
        if self.lag_s[1]:
            takes_s += world.draw(self.lag_s)
        self._arrives_at = max(self._arrives_at, world.now + takes_s)
        return self._arrives_at


class SimulatedLink:
    """One channel. An end that has closed or has heard of the end hears nothing more."""

    __slots__ = ("_coordinator", "_down", "_up", "_worker", "_world")

    def __init__(self, world: World, worker: WorkerEnd, coordinator: CoordinatorEnd) -> None:
        self._world = world
        self._worker: WorkerEnd | None = worker
        self._coordinator: CoordinatorEnd | None = coordinator
        self._up: _Pipe[FromWorker] = _Pipe(world, self._arrive_up, end=self._end_coordinator, lose=self._lose)
        self._down: _Pipe[FromCoordinator] = _Pipe(world, self._arrive_down, end=self._end_worker, lose=self._lose)

    @property
    def is_whole(self) -> bool:
        """Whether both ends are there and hear each other."""
        return (
            self._worker is not None
            and self._coordinator is not None
            and not self._up.is_dead
            and not self._down.is_dead
        )

    def send_up(self, message: FromWorker) -> None:
        """The worker speaks."""
        if self._worker is not None:
            self._up.send(message)

    def send_down(self, message: FromCoordinator) -> None:
        """The coordinator speaks."""
        if self._coordinator is not None:
            self._down.send(message)

    def close_from_worker(self) -> None:
        """The worker hangs up, or its process is gone."""
        if self._worker is not None:
            self._worker = None
            self._up.close()

    def close_from_coordinator(self) -> None:
        """The coordinator hangs up, or its process is gone."""
        if self._coordinator is not None:
            self._coordinator = None
            self._down.close()

    def cut(self) -> None:
        """Break it: both ends hear of it, soon."""
        self._break(NOTICED_S)

    def die(self) -> None:
        """Break it so that nobody hears of it for a long time."""
        self._break(GIVEN_UP_S)

    def deafen_coordinator(self) -> None:
        """Lose what the worker says; the other direction goes on."""
        self._up.is_dead = True
        self._world.after(self._world.between(*GIVEN_UP_S), self._end_worker)

    def deafen_worker(self) -> None:
        """Lose what the coordinator says; the other direction goes on."""
        self._down.is_dead = True
        self._world.after(self._world.between(*GIVEN_UP_S), self._end_coordinator)

    def set_lag(self, up: Range, down: Range) -> None:
        """Let everything take so much longer, each way, from now on."""
        self._up.lag_s, self._down.lag_s = up, down

    def suffer(self, troubles: Sequence[Trouble]) -> None:
        """Let these trouble it, both ways, for as long as they are in the list."""
        self._up.troubles = self._down.troubles = troubles

    def repeat(self) -> None:
        """Let some of what is said come again, late."""
        self.suffer([REPEATING])

    def _lose(self) -> None:
        if self.is_whole:
            self._world.rng.choice((self.cut, self.die))()

    def _break(self, heard_after_s: tuple[float, float]) -> None:
        self._up.is_dead = self._down.is_dead = True
        self._world.after(self._world.between(*heard_after_s), self._end_worker)
        self._world.after(self._world.between(*heard_after_s), self._end_coordinator)

    def _arrive_up(self, message: FromWorker) -> None:
        if self._coordinator is not None:
            self._coordinator.received(self, message)

    def _arrive_down(self, message: FromCoordinator) -> None:
        if self._worker is not None:
            self._worker.received(self, message)

    def _end_worker(self) -> None:
        end, self._worker = self._worker, None
        if end is not None:
            self._up.close()
            end.lost(self)

    def _end_coordinator(self) -> None:
        end, self._coordinator = self._coordinator, None
        if end is not None:
            self._down.close()
            end.lost(self)
