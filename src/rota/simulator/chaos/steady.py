"""Runs under a steady load, for promises that only time can keep: with ageing nobody starves, and shares converge.

More comes than a few workers can do. Coordinator and workers are killed meanwhile, a few times, because what has been
waited for, and what queues have, must outlive that.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from rota.core.commands import SetQueue
from rota.core.model import AttemptKey, Cause, Offer, TaskSeq
from rota.core.protocol import Assignment
from rota.core.queues import QueueSettings
from rota.simulator.chaos.batches import TaskBatch
from rota.simulator.chaos.clients import Crowd
from rota.simulator.chaos.options import RunOptions
from rota.simulator.chaos.sizes import CONFIG
from rota.simulator.checker import Checker
from rota.simulator.chores import Chore
from rota.simulator.coordinator import Coordinator
from rota.simulator.machine import SimulatedMachine
from rota.simulator.promises import BrokenPromise, Promise
from rota.simulator.record import Record
from rota.simulator.store import ModelStore
from rota.simulator.world import World

__all__ = ["STEADY", "RunOfSteadyLoad"]

WORKERS: Final = 4
CORES: Final = 7
"""What weights of 1, 2 and 4 can share without a rest."""

FIELDS: Final[dict[str, Any]] = {"name": "steady", "command": ["work"], "resources": {"cpu": 1000}}
TASK_S: Final = (1.0, 1.4)
EVERY_S: Final = 1.0
LOAD: Final = 1.3
"""What comes, as a part of what the workers can do."""

LASTS_S: Final = 60.0
KILLS: Final = 3

AGEING: Final = 600.0
"""Points a minute: one of the lowest priority goes before those of the highest that come ten seconds later."""

WAIT_S_MAX: Final = 40.0
"""Ten seconds for its age, as much for those before it, and twenty in which nobody decides or a worker is given up."""

WEIGHTS: Final = (1.0, 2.0, 4.0)
SETTLED_S: Final = 8.0
"""After which what was there first has ended, and shares count."""

SHARE_OFF_MAX: Final = 0.15

STEADY: Final = ("starvation", "shares")


class _Chores:
    """Everything takes about a second."""

    def __init__(self, world: World) -> None:
        self._world = world

    def chore_of(self, given: Assignment) -> Chore:
        del given
        return Chore(self._world.draw(TASK_S))


class _Onlooker(Checker):
    """Also notes when tasks begin, and what queues have had."""

    def __init__(self, world: World, record: Record) -> None:
        super().__init__(world, record, workers_may_be_lost=True, full_every=64)
        self.clock = world
        self.began: dict[TaskSeq, float] = {}
        self.had_s: dict[str, float] = {}
        self._since: dict[AttemptKey, float] = {}

    def attempt_started(self, worker: str, instance: str, given: Assignment) -> None:
        super().attempt_started(worker, instance, given)
        self.began.setdefault(given.task, self.clock.now)
        self._since[given.task, given.attempt] = self.clock.now

    def attempt_ended(self, worker: str, key: AttemptKey, cause: Cause | None) -> None:
        super().attempt_ended(worker, key, cause)
        since = max(SETTLED_S, self._since.pop(key))
        queue = self.record.facts[key[0]].queue
        self.had_s[queue] = self.had_s.get(queue, 0.0) + max(0.0, min(self.clock.now, LASTS_S) - since)


class RunOfSteadyLoad:
    """One run; ``steady`` of its options is one of `STEADY`."""

    def __init__(self, options: RunOptions, *, on_line: Callable[[str], None] | None = None) -> None:
        self.options = options
        self.world = world = World(options.seed, on_line=on_line)
        self._rng = random.Random(f"rota/{options.seed}/steady")
        is_fair = options.steady == "shares"
        self._checks = self._check_shares if is_fair else self._check_waits
        config = replace(CONFIG, ordering="fair" if is_fair else "priority", ageing=0.0 if is_fair else AGEING)
        record = Record()
        self.checker = _Onlooker(world, record)
        self.store = ModelStore(world, record, watch=self.checker.commit)
        self.coordinator = Coordinator(world, self.store, config, self.checker)
        self.clients = Crowd(world, self.coordinator, store=self.store, checker=self.checker)
        chores, offer = _Chores(world), Offer((("cpu", 1000 * CORES),))
        self.machines = [
            SimulatedMachine(world, f"m{number}", offer, chores=chores, exchange=self.coordinator, watch=self.checker)
            for number in range(1, WORKERS + 1)
        ]
        self._batches = 0

    def run(self) -> dict[str, int]:
        """Let it happen; return what happened how often.

        Raises:
            BrokenPromise: Somebody waited for too long, or got too little.
        """
        world, rng = self.world, self._rng
        self.coordinator.start()
        for machine in self.machines:
            machine.start_later()
        for _ in range(KILLS):
            world.after(rng.uniform(0.0, LASTS_S), self.coordinator.kill)
            world.after(rng.uniform(0.0, LASTS_S), rng.choice(self.machines).kill)
        if self.options.steady == "shares":
            self._set_weights()
            self._feed({"queue": "blue"}, {"queue": "green"}, {"queue": "red"}, load=2 * LOAD)
        else:
            self._feed({"priority": 100}, {"priority": 100}, {"priority": 0}, load=LOAD)
        world.run(until=LASTS_S + WAIT_S_MAX)
        self._checks()
        return self.checker.counts

    def _set_weights(self) -> None:
        self._weights = dict(zip(("blue", "green", "red"), self._rng.sample(WEIGHTS, 3), strict=True))
        for name, weight in self._weights.items():
            self.coordinator.ask(
                lambda to, name=name, weight=weight: SetQueue(name, QueueSettings(weight=weight), to),  # type: ignore[misc]  # defaults bind them
                lambda _: None,
                of=self.coordinator.turn,
            )

    def _feed(self, *kinds: dict[str, Any], load: float) -> None:
        """Submit as much of each kind, every second."""
        count = round(load * WORKERS * CORES * EVERY_S / sum(TASK_S) * 2 / len(kinds))
        for fields in kinds:
            self._batches += 1
            ids = tuple(f"s{self._batches}-{index}" for index in range(count))
            self.clients.submit(TaskBatch(self._batches, self.world.now, {**FIELDS, **fields}, ids))
        if self.world.now + EVERY_S < LASTS_S:
            self.world.after(EVERY_S, lambda: self._feed(*kinds, load=load))

    def _check_waits(self) -> None:
        """Those of the lowest priority that came in the first third have begun while others still came."""
        record, late_s = self.checker.record, LASTS_S / 3
        for seq, facts in record.facts.items():
            came = facts.created_at - self.world.wall + self.world.now
            if facts.priority == 0 and came < late_s:
                waited_s = self.checker.began.get(seq, math.inf) - came
                if waited_s > WAIT_S_MAX:
                    raise BrokenPromise(Promise.STARVATION, f"task {seq} has waited for {waited_s:.1f} s")

    def _check_shares(self) -> None:
        had, weights = self.checker.had_s, self._weights
        for name, weight in weights.items():
            share, due = had.get(name, 0.0) / sum(had.values()), weight / sum(weights.values())
            if abs(share - due) > SHARE_OFF_MAX * due:
                raise BrokenPromise(Promise.SHARES, f"queue {name} has had {share:.3f} of all, and {due:.3f} is its")
