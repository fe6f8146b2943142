"""Operators set queues, limits and reservations, and at the end take all of it back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from rota.core.commands import Command, ReplyTo, SetLimit, SetQueue, SetReservation
from rota.core.effects import Answer, SettingDone
from rota.core.errors import RotaError
from rota.core.queues import QueueSettings
from rota.core.reservations import Reservation
from rota.simulator.chaos.batches import QUEUES
from rota.simulator.coordinator import Coordinator
from rota.simulator.world import World

__all__ = ["Operators"]

LIMITS: Final = ("database", "licences")
MOST: Final = 4
ENOUGH: Final = 20
"""Of each limit, in the end: more than any gang holds."""

AGAIN_S: Final = (0.05, 2.0)


class Operators:
    """``busy`` counts commands that are not answered for good."""

    def __init__(self, world: World, coordinator: Coordinator) -> None:
        self.busy = 0
        self._world = world
        self._coordinator = coordinator

    def begin(self) -> None:
        """There is some of each limit from the start."""
        for name in LIMITS:
            self._ask(partial(SetLimit, name, self._world.rng.randint(1, MOST)))

    def meddle(self) -> None:
        """Change something."""
        rng = self._world.rng
        rng.choice((self._set_queue, self._set_queue, self._set_limit, self._reserve))()

    def restore_order(self) -> None:
        """Take back what was set, so that everything can end."""
        for name in sorted(set(QUEUES)):
            self._ask(partial(SetQueue, name, None), must_be=True)
        for name in LIMITS:
            self._ask(partial(SetLimit, name, ENOUGH), must_be=True)
        self._ask(partial(SetReservation, "tonight", None), must_be=True)

    def _set_queue(self) -> None:
        world, rng = self._world, self._world.rng
        settings = QueueSettings(
            weight=rng.choice((0.5, 1.0, 3.0)),
            paused=world.chance(0.2),
            max_running=rng.randint(0, 12) if world.chance(0.4) else None,
            max_resources={"cpu": 1000 * rng.randint(1, 8)} if world.chance(0.3) else {},
            ordering=rng.choice((None, None, "fcfs", "priority")),
            preempts_by=rng.choice((20, 40)) if world.chance(0.6) else None,
        )
        self._ask(partial(SetQueue, rng.choice(QUEUES), settings))

    def _set_limit(self) -> None:
        rng = self._world.rng
        self._ask(partial(SetLimit, rng.choice(LIMITS), rng.randint(0, MOST)))

    def _reserve(self) -> None:
        world, rng = self._world, self._world.rng
        begins = world.wall + self._coordinator.wall_jump_s + world.between(-2.0, 5.0)
        reservation = Reservation(
            begins,
            begins + world.between(1.0, 10.0),
            resources={"cpu": rng.choice((500, 1000))},
            queue=rng.choice(("blue", "green")),
            workers=rng.choice((None, 1, 2)),
        )
        self._ask(partial(SetReservation, "tonight", reservation))

    def _ask(self, make: Callable[[ReplyTo], Command], *, must_be: bool = False) -> None:
        self.busy += 1

        def on_answer(answer: Answer | RotaError | None) -> None:
            self.busy -= 1
            if must_be and not isinstance(answer, SettingDone):
                self.busy += 1
                self._world.after(self._world.between(*AGAIN_S), again)

        def again() -> None:
            self.busy -= 1
            self._ask(make, must_be=must_be)

        self._world.note("operator", repr(make.args if isinstance(make, partial) else make))
        self._coordinator.ask(make, on_answer, of=self._coordinator.turn)
