"""One run: a cluster, a time of faults, a time of peace in which everything must end.

Every seed switches some kinds of fault on and leaves others off, because what always rains hides what
only a dry spell shows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Final

from rota.core.placement.policies import POLICIES
from rota.simulator.chaos.batches import TaskBatch, draw_batch
from rota.simulator.chaos.chores import NamedChores
from rota.simulator.chaos.clients import Crowd
from rota.simulator.chaos.faults import COORDINATOR_FAULTS, Disasters, FaultEvent, plan_faults, plan_kinds
from rota.simulator.chaos.operators import Operators
from rota.simulator.chaos.options import RunOptions
from rota.simulator.chaos.sizes import SMALL, STANDARD
from rota.simulator.checker import Checker
from rota.simulator.coordinator import Coordinator
from rota.simulator.machine import SimulatedMachine
from rota.simulator.promises import BrokenPromise, Promise
from rota.simulator.record import Record
from rota.simulator.restarts import Restarts
from rota.simulator.store import ModelStore
from rota.simulator.world import World

__all__ = ["RunOutcome", "Scenario"]

GRACE_S: Final = 12.0
"""Enough for every worker to notice that the coordinator was killed, and to come back: then nobody is given up."""

STUCK_S: Final = 5.0
"""After so long a head of a line is known not to be what was thought, and nobody may stand behind it."""

REFUSED_S: Final = 60.0
"""After which every leader has had something to save, and has noticed that the store is not as it left it."""

LOOK_S: Final = 0.5
"""Between looks at whether everything is over."""

PLACEMENTS: Final = sorted(POLICIES)
ORDERINGS: Final = ("priority", "priority", "fcfs", "fair")
AGEINGS: Final = (0.0, 0.0, 60.0)
"""Each seed has one of them."""


@dataclass(frozen=True)
class RunOutcome:
    """What two runs of one seed have in common, and what happened in it."""

    trace_hash: str
    ended_s: float
    faults: frozenset[str]
    counts: dict[str, int] = field(hash=False)


class Scenario:
    """Built from its options, run once. ``on_line`` is handed each line of the trace."""

    def __init__(self, options: RunOptions, *, on_line: Callable[[str], None] | None = None) -> None:
        self.options = options
        self.size = STANDARD if options.standard else SMALL
        rng = random.Random(f"rota/{options.seed}/plan")
        self.faults_s = rng.uniform(*self.size.faults_s) if options.seconds is None else options.seconds
        self.events = self._plan_faults()
        self.batches = self._draw_batches(rng)
        self.world = world = World(options.seed, on_line=on_line)
        self._build(world, rng)

    def run(self) -> RunOutcome:
        """Let it all happen.

        Raises:
            BrokenPromise: One was broken.
        """
        try:
            return self._run()
        except BrokenPromise:
            raise
        except Exception as error:
            raise BrokenPromise(Promise.NO_CRASH, f"{type(error).__name__}: {error}") from error

    def _run(self) -> RunOutcome:
        world = self.world
        kinds = frozenset(event.kind for event in self.events)
        world.note("world", f"faults for {self.faults_s:.1f} s: {', '.join(sorted(kinds)) or 'none'}")
        self._begin()
        is_refused = world.run(until=self.faults_s, is_over=lambda: self.checker.is_refused)
        if not is_refused and self.checker.is_blind:
            self.operators.restore_order()  # so that there is something to save
            is_refused = world.run(until=self.faults_s + REFUSED_S, is_over=lambda: self.checker.is_refused)
        if self.checker.is_blind:
            self._check_refusal(is_refused=is_refused)
        else:
            self._make_peace()
            self._come_to_rest()
        return RunOutcome(world.trace_hash(), world.now, kinds, self.checker.counts)

    # Plans

    def _plan_faults(self) -> list[FaultEvent]:
        options, most = self.options, self.size.faults_max
        if options.faults is None:
            events = plan_faults(options.seed, seconds=self.faults_s, most=most)
        else:
            events = plan_kinds(options.seed, options.faults, seconds=self.faults_s, most=most)
        chosen = options.events
        return [
            event
            for event in events
            if event.kind not in options.without and (chosen is None or event.number in chosen)
        ]

    def _draw_batches(self, rng: random.Random) -> list[TaskBatch]:
        """As many as there are to be, or as have so many tasks."""
        options, batches = self.options, list[TaskBatch]()
        count, tasks = rng.randint(*self.size.batches), 0
        wanted = self.size.tasks
        while len(batches) < count if wanted is None else tasks < wanted:
            batch = draw_batch(options.seed, len(batches), seconds=self.faults_s, favourite=options.favourite)
            if wanted is not None and "gang" not in batch.fields:
                batch = TaskBatch(batch.number, batch.at, batch.fields, batch.ids[: wanted - tasks])
            batches.append(batch)
            tasks += len(batch.ids)
        kept = [batch for batch in batches if options.batches is None or batch.number in options.batches]
        return kept if options.tasks is None else _at_most(kept, options.tasks)

    # Beginning

    def _build(self, world: World, rng: random.Random) -> None:
        size, record = self.size, Record()
        may_lose = not {event.kind for event in self.events} <= {*COORDINATOR_FAULTS}
        config = replace(
            size.config,
            placement=PLACEMENTS[self.options.seed % len(PLACEMENTS)],
            ordering=rng.choice(ORDERINGS),
            ageing=rng.choice(AGEINGS),
            grace_s=size.config.grace_s if may_lose else GRACE_S,
        )
        chance = random.Random(f"rota/{self.options.seed}/restarts")
        restarts = Restarts(config, is_due=lambda: chance.random() < size.restart_part)
        self.checker = Checker(
            world, record, workers_may_be_lost=may_lose, restarts=restarts, full_every=size.full_every
        )
        self.store = ModelStore(world, record, watch=self.checker.commit)
        self.coordinator = Coordinator(world, self.store, config, self.checker)
        self.clients = Crowd(world, self.coordinator, store=self.store, checker=self.checker)
        self.operators = Operators(world, self.coordinator)
        chores = NamedChores(world)
        count = rng.randint(*size.workers)
        offers = islice(cycle(size.offers), self.options.workers or count)
        self.offers = list(offers)
        self.machines = [
            SimulatedMachine(world, f"m{number}", offer, chores=chores, exchange=self.coordinator, watch=self.checker)
            for number, offer in enumerate(self.offers, start=1)
        ]

    def _begin(self) -> None:
        world, rng = self.world, random.Random(f"rota/{self.options.seed}/people")
        self.coordinator.start()
        for machine in self.machines:
            world.after(world.between(0.0, 2.0), machine.start_if_down)
        self.operators.begin()
        for batch in self.batches:
            world.after(batch.at, lambda batch=batch: self.clients.submit(batch))  # type: ignore[misc]  # a default binds it
        deeds = ((self.clients.cancel, 8), (self.clients.retry, 4), (self.operators.meddle, self.size.meddling_max))
        for deed, most in deeds:
            for _ in range(rng.randint(0, most)):
                world.after(rng.uniform(0.0, self.faults_s), deed)
        disasters = Disasters(
            world,
            coordinator=self.coordinator,
            store=self.store,
            clients=self.clients,
            machines=self.machines,
            on_cut_short=self.checker.expect_refusal,
            count=self.checker.count,
        )
        for event in self.events:
            disasters.plan(event)

    @staticmethod
    def _check_refusal(*, is_refused: bool) -> None:
        """Once the store has lost something, all that counts is that the leader notices and goes on no more."""
        if not is_refused:
            raise BrokenPromise(Promise.NUMBERS, f"nobody has noticed in {REFUSED_S:g} s what the store has lost")

    # Peace

    def _make_peace(self) -> None:
        self.world.note("world", "peace")
        self.store.get_well()
        self.coordinator.spare()
        for machine, offer in zip(self.machines, self.offers, strict=True):
            machine.calm_down(offer)
            self.clients.set_drained(machine.name, drained=False, must_be=True)
        self.operators.restore_order()

    def _come_to_rest(self) -> None:
        world, size = self.world, self.size
        calm_at = self.faults_s + size.calm_s
        world.run(until=calm_at)
        stuck = [key for machine in self.machines for key in machine.slots.stuck_lines(for_s=STUCK_S)]
        if stuck:
            raise BrokenPromise(Promise.LINES, f"others wait for ever behind {stuck}")
        world.after(size.calm_s, self.clients.cancel_endless)
        is_over = world.run(until=self.faults_s + size.peace_s, is_over=self._look())
        self.checker.check_over()
        if not is_over:
            raise BrokenPromise(Promise.REST, f"after {size.peace_s:g} s of peace {self._unrest()}")

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
        if busy := self.clients.busy + self.operators.busy:
            return f"{busy} requests are without an answer"
        if unfinished := self.store.record.unfinished():
            return f"{len(unfinished)} tasks have not ended, such as {unfinished[0]}"
        turn = self.coordinator.turn
        if turn is None or turn.is_saving:
            return "the coordinator does not serve"
        self.checker.steps.check_everything(turn.scheduler.state)
        if turn.scheduler.state.tasks:
            return "the coordinator holds tasks that have ended"
        busy_workers = [machine.name for machine in self.machines if not machine.is_idle]
        return f"{busy_workers} are not idle" if busy_workers else ""


def _at_most(batches: list[TaskBatch], tasks: int) -> list[TaskBatch]:
    """The first so many tasks; a gang stays whole or goes."""
    kept: list[TaskBatch] = []
    for batch in batches:
        count = min(len(batch.ids), tasks - sum(len(before.ids) for before in kept))
        if count == len(batch.ids) or (count > 0 and "gang" not in batch.fields):
            kept.append(TaskBatch(batch.number, batch.at, batch.fields, batch.ids[:count]))
    return kept
