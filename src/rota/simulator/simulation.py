"""A run of a plan: a cluster in virtual time, fed with tasks until all have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from rota.core.commands import Draft, SubmitTasks
from rota.core.config import SchedulerConfig
from rota.core.effects import Accepted, Answer
from rota.core.errors import BadRequest, RotaError
from rota.core.limits import Limit
from rota.core.model import Gpu, Offer, Setting
from rota.core.placement.policies import POLICIES, PolicyFactory
from rota.core.queues import Queue
from rota.simulator.coordinator import Coordinator
from rota.simulator.faults import Faults
from rota.simulator.load import Arrival, DraftMaker
from rota.simulator.machine import SimulatedMachine
from rota.simulator.measures import Measures
from rota.simulator.pace import COARSE, SMOOTH
from rota.simulator.plan import Plan, WorkerPlan
from rota.simulator.record import LiveRecord
from rota.simulator.scenarios import check_policies
from rota.simulator.store import ModelStore
from rota.simulator.world import World

__all__ = ["Simulation"]

QUIET_HEARTBEAT_S: Final = 60.0
"""Where nothing fails nobody needs to know sooner who is alive, and heartbeats would be most of the work."""

SMOOTH_WORKERS_MAX: Final = 200
"""Up to so many workers each step is as quick as it is in a small cluster; with more, steps gather."""

AGAIN_S: Final = 0.5
"""Until tasks are sent again that nobody took."""

BATCH_MAX: Final = 10_000
"""Tasks of one request, as over REST."""

STANDSTILL_S: Final = 3600.0
"""Without a task that comes, starts or ends: then what is left will never end."""

LOOK_S: Final = 60.0


class Simulation:
    """Built from a plan and what comes, run once.

    Args:
        plan: Workers, policies, faults.
        arrivals: Tasks, in order of time.
        settings: Queues and limits of a cluster's own, besides those of the plan.
        policies: The placement policies that there are, by name.
        on_ended: Is told now and then how many tasks have ended.
        on_line: Is handed each line of the trace.

    Raises:
        RotaError: The plan names a policy or a worker that there is not.
    """

    def __init__(
        self,
        plan: Plan,
        arrivals: Iterator[Arrival],
        *,
        settings: Sequence[Setting] = (),
        policies: Mapping[str, PolicyFactory] = POLICIES,
        on_ended: Callable[[int], None] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        check_policies(plan, policies)
        workers = sum(worker.count for worker in plan.workers)
        pace = SMOOTH if workers <= SMOOTH_WORKERS_MAX else COARSE
        self.world = world = World(plan.seed, pace=pace, on_line=on_line)
        self._plan = plan
        self._on_ended = on_ended
        self._stands_still = False
        named = _named(plan.workers)
        weights = {name: settings.weight for name, settings in plan.queues.items()}
        self.measures = Measures(world, [name for name, _ in named], weights=weights)
        record = LiveRecord()
        record.settings = {(setting.kind, setting.name): setting for setting in (*settings, *_settings_of(plan))}
        store = ModelStore(world, record, watch=self.measures.commit)
        self.coordinator = Coordinator(world, store, _config_of(plan), self.measures, policies=policies)
        self.machines = [self._make_machine(name, worker) for name, worker in named]
        self._feeder = _Feeder(world, arrivals, self.coordinator, self.measures)
        self._faults = Faults(world, coordinator=self.coordinator, store=store, machines=self.machines)
        for index, fault in enumerate(plan.faults):
            self._faults.plan(fault, index=index)

    def run(self) -> Measures:
        """Let it all happen, until every task has ended, nothing moves any more, or the plan says that it is enough."""
        world, measures = self.world, self.measures
        self.coordinator.start()
        for machine in self.machines:
            machine.start_later()
        self._feeder.begin()
        self._look(-1, world.now)
        until = self._plan.until if self._plan.until is not None else float("inf")
        world.run(until=until, is_over=lambda: self._stands_still or self._feeder.is_done(measures.ended_count))
        measures.close()
        if self.coordinator.turn is not None:
            measures.note_waits(self.coordinator.turn.scheduler.state)
        return measures

    def _look(self, seen: int, since: float) -> None:
        """Look now and then whether anything moves."""
        measures, now = self.measures, self.world.now
        moved = measures.moves + self._feeder.waiting
        if moved != seen or self._faults.left or measures.is_running:
            since = now
        self._stands_still = now - since >= STANDSTILL_S and not self._feeder.expects_more
        if self._on_ended is not None:
            self._on_ended(measures.ended_count)
        self.world.after(LOOK_S, lambda: self._look(moved, since))

    def _make_machine(self, name: str, worker: WorkerPlan) -> SimulatedMachine:
        amounts = {"cpu": worker.cpu, "memory": worker.memory, **worker.resources}
        offer = Offer(
            resources=tuple(sorted(amounts.items())),
            tags=frozenset(worker.tags),
            gpus=tuple(Gpu(mib) for mib in worker.gpus),
            kinds=frozenset({"workload"}),
        )
        if worker.max_tasks is not None:
            offer = replace(offer, max_tasks=worker.max_tasks)
        machine = SimulatedMachine(
            self.world, name, offer, chores=self.measures, exchange=self.coordinator, watch=self.measures
        )
        machine.starts_at, machine.speed = worker.starts_at, worker.speed
        return machine


class _Feeder:
    """Submits what comes, in order, one request at a time: what comes meanwhile goes with the next."""

    def __init__(self, world: World, arrivals: Iterator[Arrival], coordinator: Coordinator, measures: Measures) -> None:
        self._world = world
        self._arrivals = arrivals
        self._coordinator = coordinator
        self._measures = measures
        self._maker = DraftMaker()
        self._next: Arrival | None = None
        self._waiting: deque[Draft] = deque()
        self._under_way: list[Draft] = []

    @property
    def waiting(self) -> int:
        """Tasks that came and are not accepted."""
        return len(self._waiting) + len(self._under_way)

    @property
    def expects_more(self) -> bool:
        """Whether more will come."""
        return self._next is not None

    def is_done(self, ended: int) -> bool:
        """Whether nothing more comes and so many ends are all."""
        return self._next is None and ended == self._measures.columns.tasks and not self.waiting

    def begin(self) -> None:
        """Wait for the first."""
        self._next = next(self._arrivals, None)
        if self._next is not None:
            self._world.after(max(0.0, self._next.at), self._take)

    def _take(self) -> None:
        """Take what has come, and wait for the next."""
        now, arrival = self._world.now, self._next
        while arrival is not None and arrival.at <= now:
            self._measures.due.append(arrival.at)
            self._waiting.append(self._maker.draft_of(arrival))
            arrival = next(self._arrivals, None)
        self._next = arrival
        if arrival is not None:
            self._world.after(arrival.at - now, self._take)
        self._send()

    def _send(self) -> None:
        if self._under_way or not self._waiting:
            return
        waiting = self._waiting
        drafts = self._under_way = [waiting.popleft() for _ in range(min(len(waiting), BATCH_MAX))]
        self._ask(drafts, self._measures.columns.tasks)

    def _ask(self, drafts: list[Draft], before: int) -> None:
        """Submit; where no answer comes, look whether they are on record before they are sent again."""

        def on_answer(answer: Answer | RotaError | None) -> None:
            if isinstance(answer, Accepted) or self._measures.columns.tasks > before:
                self._under_way = []
                self._send()
            else:
                self._world.after(AGAIN_S, lambda: self._ask(drafts, before))

        self._coordinator.ask(lambda to: SubmitTasks(drafts, to), on_answer, of=self._coordinator.turn)


def _named(plans: Sequence[WorkerPlan]) -> list[tuple[str, WorkerPlan]]:
    """All workers by name: where there are several of a kind, each has a number.

    Raises:
        BadRequest: Two have the same.
    """
    named: dict[str, WorkerPlan] = {}
    for plan in plans:
        for number in range(1, plan.count + 1):
            name = plan.name if plan.count == 1 else f"{plan.name}{number}"
            if name in named:
                raise BadRequest(f"two workers are called {name}: give each kind a name of its own")
            named[name] = plan
    return list(named.items())


def _config_of(plan: Plan) -> SchedulerConfig:
    """With faults the patience of a real coordinator; without, heartbeats that are as rare as may be."""
    plain = SchedulerConfig(placement=plan.placement, ordering=plan.ordering, ageing=plan.ageing, seed=plan.seed)
    beat = plan.heartbeat if plan.heartbeat is not None else plain.heartbeat_s if plan.faults else QUIET_HEARTBEAT_S
    patience = beat / plain.heartbeat_s
    return SchedulerConfig(
        heartbeat_s=beat,
        suspicious_after_s=plain.suspicious_after_s * patience,
        offline_after_s=plain.offline_after_s * patience,
        placement=plan.placement,
        ordering=plan.ordering,
        ageing=plan.ageing,
        seed=plan.seed,
    )


def _settings_of(plan: Plan) -> Iterator[Setting]:
    for name, settings in sorted(plan.queues.items()):
        queue = Queue(name)
        queue.change(settings)
        yield queue.setting()
    for name, size in sorted(plan.limits.items()):
        yield Limit(name, size).setting()
