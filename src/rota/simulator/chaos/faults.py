"""Everything that can go wrong: when, drawn before the run begins, and what it does, to somebody drawn by lot.

Each kind draws from a generator of its own, so that a run without one kind has all others where they were.

With several coordinators there would be more: two that both believe that they lead, a standby that takes over, one that
is cut off from the store alone. The seams are `ModelStore.usurp`, which is all that a leader sees of another,
`ModelStore.campaign`, and `Exchange`, where workers find whoever leads.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from rota.core.model import Offer
from rota.simulator.chaos.clients import Crowd
from rota.simulator.coordinator import Coordinator
from rota.simulator.machine import SimulatedMachine
from rota.simulator.store import ModelStore
from rota.simulator.world import World

__all__ = ["COORDINATOR_FAULTS", "FAULTS", "Disasters", "FaultEvent", "plan_faults"]

STALL_S_MAX: Final = 1.0
"""Of an agent: less than what is left of the wait for exclusive tasks when lease and grace are over."""

SILENT_PART: Final = 0.6
"""Of all workers, where many fall silent at once."""

COORDINATOR_FAULTS: Final = ("kill coordinator", "kill between effects", "kill in a commit", "kill while starting")
"""With these alone no worker is ever given up, and nothing that a worker has is run again."""

FAULTS: Final = (
    *COORDINATOR_FAULTS,
    "stall coordinator",
    "usurped",
    "jump of the wall clock",
    "kill worker",
    "stall worker",
    "unplug worker",
    "restart with less",
    "leave",
    "hurry",
    "break slot",
    "quarantine slot",
    "slow worker",
    "clock of a worker jumps",
    "cut link",
    "cut off",
    "cut off for long",
    "many fall silent",
    "dead link",
    "deaf link",
    "mute link",
    "flapping link",
    "slow link",
    "repeating link",
    "straggling link",
    "drain",
    "slow store",
    "late store",
    "refusing store",
    "full store",
    "lost suffix",
    "forget",
)

ONCE: Final = frozenset({"many fall silent", "lost suffix"})
RARE_PART: Final = 0.02
"""Of all runs, those in which the store loses what it had: nothing can go on after that, so the run ends there."""

FORGETFUL_PART: Final = 0.1
"""Of all runs, those in which somebody strikes workers off that are still there."""


class FaultEvent(Struct, frozen=True):
    """One thing that goes wrong. ``number`` is the same whatever else is left out of the run."""

    number: int
    at: float
    kind: str


def plan_faults(seed: int, *, seconds: float, most: int) -> list[FaultEvent]:
    """Draw which kinds are on, and when: up to ``most`` times each. Numbers follow from the seed alone."""
    rng = random.Random(f"rota/{seed}/faults")
    if rng.random() < 0.15:
        kinds = frozenset(COORDINATOR_FAULTS)
    else:
        part = rng.random() * 0.7
        kinds = frozenset(kind for kind in FAULTS if kind != "forget" and rng.random() < part)
        if random.Random(f"rota/{seed}/faults/forgetful").random() < FORGETFUL_PART:
            kinds |= {"forget"}
    if rng.random() >= RARE_PART:
        kinds -= {"lost suffix"}
    return plan_kinds(seed, kinds, seconds=seconds, most=most)


def plan_kinds(seed: int, kinds: frozenset[str], *, seconds: float, most: int) -> list[FaultEvent]:
    """Draw when each of some kinds happens."""
    events = []
    for place, kind in enumerate(FAULTS):
        rng = random.Random(f"rota/{seed}/faults/{kind}")
        times = 1 if kind in ONCE else rng.randint(1, most)
        moments = sorted(rng.uniform(0.0, seconds) for _ in range(times))
        if kind in kinds:
            events += [FaultEvent(100 * place + index, at, kind) for index, at in enumerate(moments)]
    return events


class Disasters:
    """Lets them happen. ``on_cut_short`` is told when the store has lost what it had."""

    def __init__(
        self,
        world: World,
        *,
        coordinator: Coordinator,
        store: ModelStore,
        clients: Crowd,
        machines: Sequence[SimulatedMachine],
        on_cut_short: Callable[[], None],
        count: Callable[[str], None],
    ) -> None:
        self._world = world
        self._coordinator = coordinator
        self._store = store
        self._clients = clients
        self._machines = machines
        self._on_cut_short = on_cut_short
        self._count = count

    def plan(self, event: FaultEvent) -> None:
        """Let one happen when it is due."""
        self._world.after(event.at, lambda: self._happen(event))

    def _happen(self, event: FaultEvent) -> None:
        self._world.note("world", f"fault {event.number}: {event.kind}")
        self._count(f"fault: {event.kind}")
        machine = self._world.rng.choice(self._machines)
        groups = (self._of_leader(), self._of_store(), self._of_worker(machine), self._of_link(machine))
        action = next(actions[event.kind] for actions in groups if event.kind in actions)
        action()

    def _of_leader(self) -> dict[str, Callable[[], None]]:
        world, coordinator = self._world, self._coordinator
        return {
            "kill coordinator": coordinator.kill,
            "kill between effects": lambda: coordinator.kill(after_effects=world.rng.randint(1, 8)),
            "kill in a commit": lambda: coordinator.kill_at_commit(world.rng.randint(1, 5)),
            "kill while starting": lambda: coordinator.stumble(world.rng.randint(1, 5)),
            "stall coordinator": lambda: coordinator.stall(world.between(0.5, 8.0)),
            "usurped": self._store.usurp,
            "jump of the wall clock": self._jump,
        }

    def _of_store(self) -> dict[str, Callable[[], None]]:
        world, store = self._world, self._store
        return {
            "slow store": lambda: store.get_worse(slow_part=0.3),
            "late store": lambda: store.get_worse(late_part=0.2),
            "refusing store": lambda: store.get_worse(refusal_part=0.1),
            "full store": lambda: store.fill_up(world.between(0.5, 5.0)),
            "lost suffix": self._lose_suffix,
        }

    def _of_worker(self, machine: SimulatedMachine) -> dict[str, Callable[[], None]]:
        world = self._world
        return {
            "kill worker": machine.kill,
            "stall worker": lambda: machine.stall(world.between(0.1, STALL_S_MAX)),
            "unplug worker": lambda: machine.kill(is_noticed=False),
            "restart with less": lambda: _restart_with_less(machine),
            "leave": machine.leave,
            "hurry": lambda: self._hurry(machine),
            "break slot": lambda: machine.break_slot(is_stuck=False),
            "quarantine slot": lambda: machine.break_slot(is_stuck=True),
            "slow worker": lambda: machine.set_speed(world.between(0.1, 0.9)),
            "clock of a worker jumps": lambda: machine.set_clock(world.rng.choice((-3600.0, -60.0, 60.0, 3600.0))),
            "forget": lambda: self._clients.forget(machine.name),
            "drain": lambda: self._clients.set_drained(machine.name, drained=world.chance(0.6)),
        }

    def _of_link(self, machine: SimulatedMachine) -> dict[str, Callable[[], None]]:
        world, link = self._world, machine.link
        return {
            "cut link": link.cut if link else _nothing,
            "cut off": lambda: machine.cut_off(world.between(2.0, 15.0)),
            "cut off for long": lambda: machine.cut_off(world.between(10.0, 30.0)),
            "many fall silent": self._silence_many,
            "dead link": link.die if link else _nothing,
            "deaf link": link.deafen_coordinator if link else _nothing,
            "mute link": link.deafen_worker if link else _nothing,
            "flapping link": lambda: machine.flap(world.rng.randint(2, 6)),
            "slow link": lambda: machine.slow_link(world.between(1.0, 10.0)),
            "repeating link": link.repeat if link else _nothing,
            "straggling link": lambda: self._straggle(machine),
        }

    def _jump(self) -> None:
        self._coordinator.wall_jump_s += self._world.rng.choice((-100.0, -5.0, 5.0, 100.0))

    def _hurry(self, machine: SimulatedMachine) -> None:
        """SIGTERM, and again, because it takes too long."""
        machine.leave()
        self._world.after(self._world.between(0.01, 2.0), machine.hurry)

    def _silence_many(self) -> None:
        world = self._world
        count = max(1, round(SILENT_PART * len(self._machines)))
        for machine in world.rng.sample(self._machines, count):
            machine.cut_off(world.between(2.0, 20.0))

    def _straggle(self, machine: SimulatedMachine) -> None:
        self._coordinator.hear_old_links()
        machine.straggle()

    def _lose_suffix(self) -> None:
        """The store comes back without its last commits, under a leader that knows better."""
        self._store.back_up()
        self._world.after(self._world.between(0.2, 2.0), self._cut_short)

    def _cut_short(self) -> None:
        turn = self._coordinator.turn
        if turn is None or turn.is_saving:
            self._world.after(0.05, self._cut_short)
        elif self._store.cut_short():
            self._on_cut_short()


def _restart_with_less(machine: SimulatedMachine) -> None:
    """Somebody reinstalls the machine: less memory, no cards, no tags."""
    machine.kill()
    machine.start(Offer((("cpu", 2000),), max_tasks=2))


def _nothing() -> None:
    """There is no link to break."""
