"""From a plan to a report: what comes is made anew for each run, the same each time."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from rota.core.model import Setting
from rota.core.placement.policies import POLICIES, PolicyFactory
from rota.core.spec import TaskSpec
from rota.simulator.columns import Columns
from rota.simulator.load import Arrival, merged, task_of
from rota.simulator.plan import LoadPlan, Plan
from rota.simulator.report import RunReport, make_report
from rota.simulator.simulation import Simulation
from rota.workloads import Mix, WorkloadTask, make_arrivals, make_durations, make_mix

__all__ = ["Finished", "Traces", "arrivals_of", "capacity_of", "expected_tasks", "fitting_rate", "run_plan"]

Traces = Mapping[int, Sequence[Arrival]]
"""What was read of trace files, by the index of the load that names it."""

SAMPLE: Final = 2_000
"""Tasks of a mix that are looked at to know what it takes."""


RATE_OF_NOTHING: Final = 1_000.0
"""Tasks a second, of those that take no time or no cores."""


class Finished(Struct, frozen=True):
    """A run that is over: in numbers, and in columns for whoever draws it."""

    report: RunReport
    columns: Columns
    worker_millicores: list[int]


def run_plan(
    plan: Plan,
    arrivals: Iterator[Arrival],
    *,
    settings: Sequence[Setting] = (),
    policies: Mapping[str, PolicyFactory] = POLICIES,
    on_ended: Callable[[int], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run a plan to its end.

    Args:
        plan: Checked.
        arrivals: Tasks, in order of time: see `arrivals_of`.
        settings: Queues and limits of a cluster's own, besides those of the plan.
        policies: The placement policies that there are.
        on_ended: Is told now and then how many tasks have ended.
        on_line: Is handed each line of the trace.

    Raises:
        RotaError: The plan names a policy or a worker that there is not.
    """
    simulation = Simulation(plan, arrivals, settings=settings, policies=policies, on_ended=on_ended, on_line=on_line)
    with _without_collector():
        columns = simulation.run().columns
    report = make_report(
        columns,
        placement=plan.placement,
        ordering=plan.ordering,
        seed=plan.seed,
        capacity_millicores=capacity_of(plan),
    )
    return Finished(report, columns, [worker.cpu for worker in plan.workers for _ in range(worker.count)])


def arrivals_of(plan: Plan, traces: Traces) -> Iterator[Arrival]:
    """All that comes, in order of time: the same for the same plan, whatever its policies.

    Raises:
        BadRequest: A load names a pattern, a mix or a distribution that there is not.
    """
    loads = [
        iter(traces[index]) if load.trace is not None else _generated(load, random.Random(f"{plan.seed}/load/{index}"))
        for index, load in enumerate(plan.load)
    ]
    return merged(loads)


def capacity_of(plan: Plan) -> int:
    """Millicores of all workers together."""
    return sum(worker.cpu * worker.count for worker in plan.workers)


def expected_tasks(plan: Plan, traces: Traces) -> int:
    """About how many tasks will come."""
    return sum(
        len(traces[index]) if load.trace is not None else round(_amounts(load)[0] * _amounts(load)[1])
        for index, load in enumerate(plan.load)
    )


def fitting_rate(load: LoadPlan, *, capacity_millicores: int, part: float) -> float:
    """How many tasks a second of a load keep a part of some cores busy; `RATE_OF_NOTHING` where no number does.

    Raises:
        BadRequest: There is no such mix or distribution.
    """
    mix = _mix_of(load)
    rng = random.Random("rota/sample")
    drawn = [mix.draw(rng) for _ in range(SAMPLE)]
    mean = sum({**task.resources, **load.resources}["cpu"] * task.work.seconds for task in drawn) / SAMPLE
    return part * capacity_millicores / mean if mean else RATE_OF_NOTHING


def _generated(load: LoadPlan, rng: random.Random) -> Iterator[Arrival]:
    rate, duration_s = _amounts(load)
    mix = _mix_of(load)
    pattern = make_arrivals(load.arrivals, rate=rate, duration_s=duration_s)
    return _drawn(load, pattern.times(rng), lambda: mix.draw(rng))


def _drawn(load: LoadPlan, times: Iterator[float], draw: Callable[[], WorkloadTask]) -> Iterator[Arrival]:
    templates: dict[tuple[object, ...], TaskSpec] = {}
    for count, at in enumerate(times):
        if load.tasks is not None and count >= load.tasks:
            return
        task = draw()
        key = (task.name, *task.resources.items())
        template = templates.get(key)
        if template is None:
            template = templates[key] = _template_of(task, load)
        yield Arrival(load.starts_at + at, template, task.work)


def _mix_of(load: LoadPlan) -> Mix:
    durations = make_durations(load.durations, mean_s=load.mean_duration)
    return make_mix(load.mix, durations=durations, shapes=load.shapes)


def _template_of(task: WorkloadTask, load: LoadPlan) -> TaskSpec:
    return replace(task_of(load), name=task.name, resources={**task.resources, **load.resources})


def _amounts(load: LoadPlan) -> tuple[float, float]:
    """Tasks a second, and for how long."""
    if load.rate is None:
        assert load.tasks is not None
        assert load.duration is not None
        return load.tasks / load.duration, load.duration
    if load.duration is None:
        assert load.tasks is not None
        return load.rate, load.tasks / load.rate
    return load.rate, load.duration


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the cyclic collector off: it would look at all of this state and find nothing in it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
