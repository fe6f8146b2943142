"""Faults that a plan asks for: at a time or now and then, to workers that it names or one drawn by lot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Final

from rota.core.errors import BadRequest
from rota.simulator.coordinator import Coordinator
from rota.simulator.machine import SimulatedMachine
from rota.simulator.network import Trouble
from rota.simulator.plan import FaultPlan
from rota.simulator.store import ModelStore
from rota.simulator.world import World

__all__ = ["Faults"]

SLOW: Final = 0.2
"""The speed of a slow worker of which nothing is said."""

DOWN: Final = ("crash", "power-loss", "leave")
"""Kinds after which no worker runs for a while."""

LOST_PART: Final = 0.01
"""Of the messages: each costs a connection, so one in a hundred is a bad network already."""

DELAYED_PART: Final = 1.0
REPEATED_PART: Final = 0.3
DELAY_S: Final = 0.5
"""What messages take longer, on average."""


class Faults:
    """Makes them happen. ``left`` counts those that will happen once and have not."""

    def __init__(
        self, world: World, *, coordinator: Coordinator, store: ModelStore, machines: Sequence[SimulatedMachine]
    ) -> None:
        self.left = 0
        self._world = world
        self._coordinator = coordinator
        self._store = store
        self._machines = machines
        self._names = [machine.name for machine in machines]

    def plan(self, fault: FaultPlan, *, index: int) -> None:
        """Let one happen when it is due, or again and again.

        Raises:
            BadRequest: There is no such worker.
        """
        if fault.worker is not None and not self._named(fault.worker):
            hint = get_close_matches(fault.worker, self._names, n=1) or self._names[:3]
            raise BadRequest(f"faults[{index}].worker: there is no worker {fault.worker!r}; there is {', '.join(hint)}")
        if fault.every is not None:
            self._again(fault, fault.every)
            return
        self.left += 1
        self._world.after(fault.at or 0.0, lambda: self._once(fault))

    def _once(self, fault: FaultPlan) -> None:
        self.left -= 1
        self._happen(fault)

    def _again(self, fault: FaultPlan, every_s: float) -> None:
        def happen() -> None:
            self._happen(fault)
            self._again(fault, every_s)

        self._world.after(self._world.rng.expovariate(1.0 / every_s), happen)

    def _happen(self, fault: FaultPlan) -> None:
        if fault.commit is not None:
            self._world.note("world", f"fault: {fault.kind} in commit {fault.commit} from now")
            self._coordinator.kill_at_commit(fault.commit, restart_s=(fault.lasts, fault.lasts))
            return
        self._world.note("world", f"fault: {fault.kind} for {fault.lasts:g} s")
        if fault.kind == "coordinator-crash":
            self._coordinator.restart_s = (fault.lasts, fault.lasts)
            self._coordinator.kill()
        elif fault.kind == "store-full":
            self._store.fill_up(fault.lasts)
        else:
            hit = [self._world.rng.choice(self._machines)] if fault.worker is None else self._named(fault.worker)
            for machine in hit:
                self._hit(machine, fault)

    def _named(self, pattern: str) -> Sequence[SimulatedMachine]:
        """The machine of a name, or all whose names begin so where it ends in ``*``."""
        if not pattern.endswith("*"):
            return [machine for machine in self._machines if machine.name == pattern]
        return [machine for machine in self._machines if machine.name.startswith(pattern[:-1])]

    def _hit(self, machine: SimulatedMachine, fault: FaultPlan) -> None:
        seconds = fault.lasts
        if fault.kind in DOWN:
            machine.down_s = (seconds, seconds)
        actions: dict[str, Callable[[], None]] = {
            "crash": machine.kill,
            "power-loss": lambda: machine.kill(is_noticed=False),
            "partition": lambda: machine.cut_off(seconds),
            "leave": machine.leave,
            "slow": lambda: self._slow_down(machine, fault),
            "lost-messages": lambda: machine.trouble(Trouble(lost_part=_part(fault, LOST_PART)), seconds),
            "delayed-messages": lambda: machine.trouble(_delay(fault), seconds),
            "repeated-messages": lambda: machine.trouble(Trouble(repeated_part=_part(fault, REPEATED_PART)), seconds),
        }
        actions[fault.kind]()

    def _slow_down(self, machine: SimulatedMachine, fault: FaultPlan) -> None:
        speed = SLOW if fault.speed is None else fault.speed
        machine.set_speed(machine.speed * speed)
        # Divided, not set to what it was: it may have become slower for another reason meanwhile.
        self._world.after(fault.lasts, lambda: machine.set_speed(machine.speed / speed))


def _part(fault: FaultPlan, default: float) -> float:
    return default if fault.part is None else fault.part


def _delay(fault: FaultPlan) -> Trouble:
    delay_s = DELAY_S if fault.delay is None else fault.delay
    return Trouble(late_part=_part(fault, DELAYED_PART), late_s=(delay_s / 2, delay_s * 3 / 2))
