"""Faults that a plan asks for: at a time or now and then, to a worker that it names or one drawn by lot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rota.core.errors import BadRequest
from rota.simulator.coordinator import Coordinator
from rota.simulator.machine import SimulatedMachine
from rota.simulator.plan import FaultPlan
from rota.simulator.store import ModelStore
from rota.simulator.world import World

__all__ = ["Faults"]

SLOW: Final = 0.2
"""The speed of a slow worker of which nothing is said."""


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
        self._by_name: Mapping[str, SimulatedMachine] = {machine.name: machine for machine in machines}

    def plan(self, fault: FaultPlan, *, index: int) -> None:
        """Let one happen when it is due, or again and again.

        Raises:
            BadRequest: There is no such worker.
        """
        if fault.worker is not None and fault.worker not in self._by_name:
            raise BadRequest(f"faults[{index}].worker: there is no worker {fault.worker!r}")
        if fault.every is not None:
            self._again(fault, fault.every)
            return
        assert fault.at is not None
        self.left += 1
        self._world.after(fault.at, lambda: self._once(fault))

    def _once(self, fault: FaultPlan) -> None:
        self.left -= 1
        self._happen(fault)

    def _again(self, fault: FaultPlan, every_s: float) -> None:
        def happen() -> None:
            self._happen(fault)
            self._again(fault, every_s)

        self._world.after(self._world.rng.expovariate(1.0 / every_s), happen)

    def _happen(self, fault: FaultPlan) -> None:
        self._world.note("world", f"fault: {fault.kind} for {fault.lasts:g} s")
        if fault.kind == "coordinator-crash":
            self._coordinator.restart_s = (fault.lasts, fault.lasts)
            self._coordinator.kill()
        elif fault.kind == "store-full":
            self._store.fill_up(fault.lasts)
        else:
            self._of_worker(fault)

    def _of_worker(self, fault: FaultPlan) -> None:
        world = self._world
        machine = world.rng.choice(self._machines) if fault.worker is None else self._by_name[fault.worker]
        machine.down_s = (fault.lasts, fault.lasts)
        actions: dict[str, Callable[[], None]] = {
            "crash": machine.kill,
            "power-loss": lambda: machine.kill(is_noticed=False),
            "partition": lambda: machine.cut_off(fault.lasts),
            "leave": machine.leave,
            "slow": lambda: self._slow_down(machine, fault),
        }
        actions[fault.kind]()

    def _slow_down(self, machine: SimulatedMachine, fault: FaultPlan) -> None:
        before = machine.speed
        machine.set_speed(before * (SLOW if fault.speed is None else fault.speed))
        self._world.after(fault.lasts, lambda: machine.set_speed(before))
