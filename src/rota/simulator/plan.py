"""What is to be simulated: workers, work, policies and faults, read from YAML or made from options.

Reading is strict, as it is for tasks: an unknown field or a number out of its range is a `BadRequest` that names it.
"""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Final

import msgspec
from msgspec import Struct, field

from rota.core.errors import BadRequest
from rota.core.ordering import ORDERINGS
from rota.core.queues import QueueSettings, check_queue_settings
from rota.core.spec import PRIORITY_WORDS

__all__ = ["FAULT_KINDS", "FaultPlan", "LoadPlan", "Plan", "QueuePlan", "WorkerPlan", "check_plan", "read_plan"]

WORKERS_MAX: Final = 100_000
TASKS_MAX: Final = 100_000_000
SECONDS_MAX: Final = 10 * 366 * 86_400.0
AMOUNT_MAX: Final = 10**12

FAULT_KINDS: Final = ("crash", "power-loss", "partition", "slow", "leave", "coordinator-crash", "store-full")
"""What can be made to happen, at a time or now and then."""


class WorkerPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``count`` like workers, called ``name`` and a number. ``gpus`` are the MiB of each card.

    Of ``speed`` 0.5 is a worker on which everything takes twice as long. They start ``starts_at`` seconds in.
    """

    count: int = 1
    name: str = "w"
    cpu: int = 4000
    memory: int = 16_000
    gpus: list[int] = []
    resources: dict[str, int] = {}
    tags: list[str] = []
    max_tasks: int | None = None
    starts_at: float = 0.0
    speed: float = 1.0


class LoadPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tasks that come: as a pattern of arrivals and a mix have it, or as a ``trace`` file does.

    Two of ``rate`` (tasks a second), ``tasks`` and ``duration`` say how many come within what time. ``time_scale``
    stretches the times of a trace at which tasks come, and not how long they run. ``resources`` are what each task asks
    for instead of what the mix says.
    """

    arrivals: str = "steady"
    mix: str = "mixed"
    rate: float | None = None
    tasks: int | None = None
    duration: float | None = None
    mean_duration: float = 10.0
    durations: str = "exponential"
    shapes: int = 0
    resources: dict[str, int] = {}
    starts_at: float = 0.0
    trace: str | None = None
    time_scale: float = 1.0
    queue: str = "default"
    priority: int | str | None = None
    tags: list[str] = []
    placement: str | None = None
    limits: dict[str, int] = {}
    timeout: float | None = None
    retries: int = 0
    losses: int = 5


class FaultPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"lasts": "for"}):
    """Something that happens ``at`` a time, or again and again with a mean of ``every`` seconds between.

    To ``worker``, or to one drawn by lot. What is broken is mended ``for`` so many seconds later. ``speed`` is that of
    a slow worker.
    """

    kind: str
    at: float | None = None
    every: float | None = None
    lasts: float = 30.0
    worker: str | None = None
    speed: float = 0.2


class QueuePlan(QueueSettings, frozen=True, forbid_unknown_fields=True):
    """A queue's settings, as `rota queues set` would make them."""


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole run. ``until`` ends it, however much is left to do."""

    workers: list[WorkerPlan] = field(default_factory=lambda: [WorkerPlan()])
    load: list[LoadPlan] = field(default_factory=list)
    placement: str = "least-loaded"
    ordering: str = "priority"
    ageing: float = 0.0
    queues: dict[str, QueuePlan] = {}
    limits: dict[str, int] = {}
    faults: list[FaultPlan] = []
    heartbeat: float | None = None
    seed: int = 0
    until: float | None = None


def read_plan(text: bytes) -> Plan:
    """Read a scenario from YAML, of which JSON is a part, and check it.

    Raises:
        BadRequest: It is no YAML, has a field that there is not, or says what can't be.
    """
    try:
        plan = msgspec.yaml.decode(text, type=Plan)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the scenario: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the scenario is no YAML: {error}") from error
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Refuse what can't be simulated.

    Raises:
        BadRequest: Says what is wrong and where.
    """
    if plan.ordering not in ORDERINGS:
        raise BadRequest(f"ordering: {_not_one_of(plan.ordering, tuple(ORDERINGS))}")
    _check("ageing", plan.ageing, 0.0, 1e6)
    for name, seconds in (("until", plan.until), ("heartbeat", plan.heartbeat)):
        if seconds is not None:
            _check(name, seconds, 0.001, SECONDS_MAX)
    for at, worker in enumerate(plan.workers):
        _check_worker(worker, f"workers[{at}]")
    count = sum(worker.count for worker in plan.workers)
    if not 1 <= count <= WORKERS_MAX:
        raise BadRequest(f"workers: there are {count:,}: it must be 1 to {WORKERS_MAX:,}")
    for at, load in enumerate(plan.load):
        _check_load(load, f"load[{at}]")
    for at, fault in enumerate(plan.faults):
        _check_fault(fault, f"faults[{at}]")
    for name, settings in plan.queues.items():
        try:
            check_queue_settings(settings)
        except BadRequest as error:
            raise BadRequest(f"queues: {name}: {error}") from None
    for name, size in plan.limits.items():
        _check(f"limits: {name}", size, 0, AMOUNT_MAX)


def _check_worker(worker: WorkerPlan, where: str) -> None:
    _check(f"{where}.count", worker.count, 0, WORKERS_MAX)
    _check(f"{where}.speed", worker.speed, 0.001, 1000.0)
    _check(f"{where}.starts_at", worker.starts_at, 0.0, SECONDS_MAX)
    amounts = {"cpu": worker.cpu, "memory": worker.memory, **worker.resources}
    for name, amount in [*amounts.items(), *(("gpus", card) for card in worker.gpus)]:
        _check(f"{where}.{name}", amount, 0, AMOUNT_MAX)
    if worker.max_tasks is not None:
        _check(f"{where}.max_tasks", worker.max_tasks, 0, AMOUNT_MAX)
    if not worker.name or not worker.name.isprintable():
        raise BadRequest(f"{where}.name: {worker.name!r} can't be a name")


def _check_load(load: LoadPlan, where: str) -> None:
    _check(f"{where}.starts_at", load.starts_at, 0.0, SECONDS_MAX)
    for name, amount in load.resources.items():
        _check(f"{where}.resources: {name}", amount, 0, AMOUNT_MAX)
    if isinstance(load.priority, str):
        if load.priority not in PRIORITY_WORDS:
            raise BadRequest(f"{where}.priority: {_not_one_of(load.priority, tuple(filter(None, PRIORITY_WORDS)))}")
    elif load.priority is not None:
        _check(f"{where}.priority", load.priority, 0, 100)
    if load.trace is not None:
        _check(f"{where}.time_scale", load.time_scale, 1e-9, 1e9)
        return
    _check(f"{where}.mean_duration", load.mean_duration, 0.0, SECONDS_MAX)
    _check(f"{where}.shapes", load.shapes, 0, 100_000)
    given = [name for name in ("rate", "tasks", "duration") if getattr(load, name) is not None]
    if len(given) != 2:
        told = " and ".join(given) or "none"
        raise BadRequest(f"{where}: give two of rate, tasks and duration, not {told}: the third follows from them")
    for name, least, most in (("rate", 1e-6, 1e7), ("tasks", 1, TASKS_MAX), ("duration", 0.001, SECONDS_MAX)):
        value = getattr(load, name)
        if value is not None:
            _check(f"{where}.{name}", value, least, most)


def _check_fault(fault: FaultPlan, where: str) -> None:
    if fault.kind not in FAULT_KINDS:
        raise BadRequest(f"{where}.kind: {_not_one_of(fault.kind, FAULT_KINDS)}")
    if (fault.at is None) == (fault.every is None):
        raise BadRequest(f"{where}: say when: give one of at and every")
    for name, seconds, least in (("at", fault.at, 0.0), ("every", fault.every, 0.001), ("for", fault.lasts, 0.0)):
        if seconds is not None:
            _check(f"{where}.{name}", seconds, least, SECONDS_MAX)
    _check(f"{where}.speed", fault.speed, 0.001, 1000.0)


def _check(what: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise BadRequest(f"{what} is {value:,g}: it must be {least:,g} to {most:,g}")


def _not_one_of(given: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(given, known, n=1)
    return f"there is no {given!r}; " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}")
