"""One run: a cluster, a time of faults, a time of peace in which everything must end.

Every seed switches some kinds of fault on and leaves others off, because what always rains hides what
only a dry spell shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from rota.core.config import SchedulerConfig
from rota.core.invariants import check_invariants
from rota.core.model import Gpu, Offer
from rota.core.placement.policies import POLICIES
from rota.simulator.chaos.chores import NamedChores
from rota.simulator.chaos.clients import Crowd
from rota.simulator.checker import Checker
from rota.simulator.coordinator import Coordinator
from rota.simulator.machine import SimulatedMachine
from rota.simulator.record import Record
from rota.simulator.store import ModelStore
from rota.simulator.world import World

__all__ = ["COORDINATOR_FAULTS", "FAULTS", "RunOutcome", "Scenario"]

GRACE_S: Final = 12.0
"""Enough for every worker to notice that the coordinator was killed, and to come back."""

SHORT_GRACE_S: Final = 1.0
"""Where workers may be given up, they are to be given up often."""

CONFIG: Final = SchedulerConfig(
    heartbeat_s=1.0,
    suspicious_after_s=3.0,
    offline_after_s=6.0,
    grace_s=SHORT_GRACE_S,
    blackout_s=8.0,
    impossible_after_s=15.0,
    kill_grace_s=0.5,
    lease_s=8.0,
    lease_grace_s=0.5,
    exclusive_wait_s=10.5,
    forget_after_s=12.0,
)

FAULTS_S: Final = (5.0, 25.0)
"""How long faults go on."""

CALM_S: Final = 30.0
"""Of peace, until all workers are back and nobody waits behind what never ends; then that is cancelled as well."""

PEACE_S: Final = 150.0
"""In which everything must end: impossible tasks wait longest, and long ones run up to 6 s, a few at a time."""

STUCK_S: Final = 5.0
"""After so long a head of a line is known not to be what was thought, and nobody may stand behind it."""

LOOK_S: Final = 0.5
"""Between looks at whether everything is over."""

STALL_S_MAX: Final = 1.0
"""Of an agent: less than what is left of the wait for exclusive tasks when lease and grace are over."""

OFFERS: Final = (
    Offer((("cpu", 3000), ("memory", 400)), frozenset({"ssd"}), gpus=(Gpu(4000), Gpu(8000))),
    Offer((("cpu", 2000), ("memory", 1000)), max_tasks=3),
    Offer((("cpu", 1000),), frozenset({"ssd"}), gpus=(Gpu(8000),)),
    Offer((("cpu", 4000), ("memory", 200))),
)

PLACEMENTS: Final = sorted(POLICIES)
"""Each seed has one of them."""

COORDINATOR_FAULTS: Final = ("kill coordinator", "kill between effects")
"""With these alone no worker is ever given up, and nothing that a worker has is run again."""

FAULTS: Final = (
    *COORDINATOR_FAULTS,
    "stall coordinator",
    "jump of the wall clock",
    "kill worker",
    "stall worker",
    "unplug worker",
    "restart with less",
    "leave",
    "hurry",
    "break slot",
    "quarantine slot",
    "cut link",
    "cut off",
    "cut off for long",
    "dead link",
    "deaf link",
    "drain",
    "slow store",
    "late store",
    "refusing store",
    "full store",
)


@dataclass(frozen=True)
class RunOutcome:
    """What two runs of one seed have in common, and what happened in it."""

    trace_hash: str
    ended_s: float
    faults: frozenset[str]
    counts: dict[str, int] = field(hash=False)


class Scenario:
    """Built from a seed, run once.

    Args:
        seed: Of everything.
        faults: Which kinds are on; drawn if not given.
        favourite: Fields that most tasks have, if given.
        on_line: Is handed each line of the trace.
    """

    def __init__(
        self,
        seed: int,
        *,
        faults: frozenset[str] | None = None,
        favourite: Mapping[str, object] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.world = world = World(seed, on_line=on_line)
        self.faults = faults if faults is not None else self._draw_faults()
        record = Record()
        may_lose = not self.faults <= {*COORDINATOR_FAULTS}
        placement = PLACEMENTS[seed % len(PLACEMENTS)]
        config = replace(CONFIG, placement=placement, grace_s=CONFIG.grace_s if may_lose else GRACE_S)
        self.checker = Checker(world, record, workers_may_be_lost=may_lose)
        self.store = ModelStore(world, record, watch=self.checker.commit)
        self.coordinator = Coordinator(world, self.store, config, self.checker)
        self.clients = Crowd(world, self.coordinator, store=self.store, checker=self.checker, favourite=favourite)
        chores = NamedChores(world)
        self.machines = [
            SimulatedMachine(world, f"m{number}", offer, chores=chores, exchange=self.coordinator, watch=self.checker)
            for number, offer in enumerate(OFFERS[: world.rng.randint(1, len(OFFERS))], start=1)
        ]
        self._is_peace = False

    def run(self) -> RunOutcome:
        """Let it all happen.

        Raises:
            AssertionError: A promise was broken.
        """
        world = self.world
        faults_s = world.between(*FAULTS_S)
        world.note("world", f"faults for {faults_s:.1f} s: {', '.join(sorted(self.faults)) or 'none'}")
        self._begin(faults_s)
        world.run(until=faults_s)
        self._make_peace()
        world.run(until=faults_s + CALM_S)
        stuck = [key for machine in self.machines for key in machine.slots.stuck_lines(for_s=STUCK_S)]
        assert not stuck, f"others wait for ever behind {stuck}"
        world.after(CALM_S, self.clients.cancel_endless)
        is_over = world.run(until=faults_s + PEACE_S, is_over=self._look())
        self.checker.check_over()
        assert is_over, f"not at rest after {PEACE_S:g} s of peace: {self._unrest()}"
        return RunOutcome(world.trace_hash(), world.now, self.faults, self.checker.counts)

    # Beginning

    def _draw_faults(self) -> frozenset[str]:
        if self.world.chance(0.15):
            return frozenset(COORDINATOR_FAULTS)
        part = self.world.rng.random() * 0.7
        return frozenset(fault for fault in FAULTS if self.world.chance(part))

    def _begin(self, faults_s: float) -> None:
        world = self.world
        self.coordinator.start()
        for machine in self.machines:
            world.after(world.between(0.0, 2.0), machine.start_if_down)
        for _ in range(world.rng.randint(3, 20)):
            world.after(world.between(0.0, faults_s), self.clients.submit)
        for _ in range(world.rng.randint(0, 8)):
            world.after(world.between(0.0, faults_s), self.clients.cancel)
        for _ in range(world.rng.randint(0, 4)):
            world.after(world.between(0.0, faults_s), self.clients.retry)
        for fault in sorted(self.faults):
            for _ in range(world.rng.randint(1, 6)):
                world.after(world.between(0.0, faults_s), self._happens(fault))

    def _happens(self, fault: str) -> Callable[[], None]:
        def happen() -> None:
            self.world.note("world", f"fault: {fault}")
            self._actions()[fault]()

        return happen

    def _actions(self) -> dict[str, Callable[[], None]]:
        """What each kind of fault does, to somebody drawn by lot."""
        world, coordinator, store = self.world, self.coordinator, self.store
        machine = world.rng.choice(self.machines)
        return {
            "kill coordinator": coordinator.kill,
            "kill between effects": lambda: coordinator.kill(after_effects=world.rng.randint(1, 8)),
            "stall coordinator": lambda: coordinator.stall(world.between(0.5, 8.0)),
            "jump of the wall clock": self._jump,
            "kill worker": machine.kill,
            "stall worker": lambda: machine.stall(world.between(0.1, STALL_S_MAX)),
            "unplug worker": lambda: machine.kill(is_noticed=False),
            "restart with less": lambda: self._restart_with_less(machine),
            "leave": machine.leave,
            "hurry": lambda: self._hurry(machine),
            "break slot": lambda: machine.break_slot(is_stuck=False),
            "quarantine slot": lambda: machine.break_slot(is_stuck=True),
            "cut link": lambda: machine.link.cut() if machine.link else None,
            "cut off": lambda: machine.cut_off(world.between(2.0, 15.0)),
            "cut off for long": lambda: machine.cut_off(world.between(10.0, 30.0)),
            "dead link": lambda: machine.link.die() if machine.link else None,
            "deaf link": lambda: machine.link.deafen_coordinator() if machine.link else None,
            "drain": lambda: self.clients.set_drained(machine.name, drained=world.chance(0.6)),
            "slow store": lambda: store.get_worse(slow_part=0.3),
            "late store": lambda: store.get_worse(late_part=0.2),
            "refusing store": lambda: store.get_worse(refusal_part=0.1),
            "full store": lambda: store.fill_up(world.between(0.5, 5.0)),
        }

    def _jump(self) -> None:
        self.coordinator.wall_jump_s += self.world.rng.choice((-100.0, -5.0, 5.0, 100.0))

    def _hurry(self, machine: SimulatedMachine) -> None:
        """SIGTERM, and again, because it takes too long."""
        machine.leave()
        self.world.after(self.world.between(0.01, 2.0), machine.hurry)

    def _restart_with_less(self, machine: SimulatedMachine) -> None:
        """Somebody reinstalls the machine: less memory, no cards, no tags."""
        machine.kill()
        machine.start(Offer((("cpu", 2000),), max_tasks=2))

    # Peace

    def _make_peace(self) -> None:
        self.world.note("world", "peace")
        self.store.get_well()
        self.coordinator.spare()
        for machine, offer in zip(self.machines, OFFERS, strict=False):
            machine.calm_down(offer)
            self.clients.set_drained(machine.name, drained=False, must_be=True)

    def _look(self) -> Callable[[], bool]:
        """Look now and then; the answer is whether all was over at the last look."""
        is_over = False

        def look() -> None:
            nonlocal is_over
            is_over = not self._unrest()
            self.world.after(LOOK_S, look)

        look()
        return lambda: is_over

    def _unrest(self) -> str:
        """What is not at rest yet; empty when all is over."""
        if self.clients.busy:
            return f"{self.clients.busy} requests without an answer"
        if unfinished := self.store.record.unfinished():
            return f"{len(unfinished)} tasks have not ended, such as {unfinished[0]}"
        turn = self.coordinator.turn
        if turn is None or turn.is_saving:
            return "the coordinator does not serve"
        check_invariants(turn.scheduler.state)
        if turn.scheduler.state.tasks:
            return "the coordinator holds tasks that have ended"
        busy = [machine.name for machine in self.machines if not machine.is_idle]
        return f"{busy} are not idle" if busy else ""
