"""Reading scenario files, strictly, as tasks are read: what is wrong is a `BadRequest` that names the place.

What makes no sense together is refused, too, because a field that is silently ignored is a wrong figure later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import fields, replace

from rota.core.errors import BadRequest, BadSpec
from rota.core.model import SyntheticWork
from rota.core.ordering import ORDERINGS
from rota.core.placement.policies import PolicyFactory, check_placement
from rota.core.queues import check_queue_settings
from rota.core.requests import check_template
from rota.core.spec import TaskSpec, encode_spec
from rota.simulator.load import task_of
from rota.simulator.plan import FaultPlan, LoadPlan, Plan, QueuePlan, WorkerPlan
from rota.workloads.named import check_amount

__all__ = ["FAULT_KINDS", "SECONDS_MAX", "check_plan", "check_policies", "check_task", "read_plan"]

WORKERS_MAX: Final = 100_000
TASKS_MAX: Final = 100_000_000
SECONDS_MAX: Final = 10 * 366 * 86_400.0
AMOUNT_MAX: Final = 10**12

FAULT_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "crash": ("worker",),
    "power-loss": ("worker",),
    "partition": ("worker",),
    "slow": ("worker", "speed"),
    "leave": ("worker",),
    "lost-messages": ("worker", "part"),
    "delayed-messages": ("worker", "part", "delay"),
    "repeated-messages": ("worker", "part"),
    "coordinator-crash": ("commit",),
    "store-full": (),
}
"""What can be made to happen, and what may be said of it besides when and for how long."""

_OF_SOME_FAULTS: Final = ("worker", "speed", "part", "delay", "commit")
_NOT_OF_TRACES: Final = ("arrivals", "mix", "rate", "duration", "mean_duration", "durations", "shapes", "resources")
_MADE_UP: Final = LoadPlan()

_UNITS: Final = {
    "cpu": "millicores: 4000 are four cores",
    "memory": "MiB",
    "gpus": "MiB of each card",
    "at": "seconds",
    "for": "seconds",
    "every": "seconds",
    "delay": "seconds",
    "duration": "seconds",
    "mean_duration": "seconds",
    "starts_at": "seconds",
    "timeout": "seconds",
    "until": "seconds",
    "heartbeat": "seconds",
}
_STRUCTS: Final[Mapping[str, type[Struct]]] = {
    "": Plan,
    "workers": WorkerPlan,
    "load": LoadPlan,
    "faults": FaultPlan,
    "queues": QueuePlan,
}
_WORDS: Final = {
    "null": "nothing",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "fields with values",
}
_AT_PATH: Final = re.compile(r"(?P<what>.*) - at `\$\.?(?P<path>.*)`\Z")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`\Z")
_EXPECTED: Final = re.compile(r"Expected `(\w+)(?: \| \w+)*`, got `(\w+)`\Z")


def read_plan(text: bytes) -> Plan:
    """Read a scenario from YAML, of which JSON is a part, and check it.

    Raises:
        BadRequest: It is no YAML, has a field that there is not, or says what can't be.
    """
    try:
        plan = msgspec.yaml.decode(text, type=Plan)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the scenario: {_explained(str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the scenario is no YAML: {' '.join(str(error).split())}") from error
    check_plan(plan)
    return plan


def _explained(problem: str) -> str:
    """The decoder's sentence in our words: where it is, what is wrong, and what was perhaps meant."""
    match = _AT_PATH.match(problem)
    what, path = (match["what"], match["path"].replace("[...]", "")) if match else (problem, "")
    where = f"{path}: " if path else ""
    if unknown := _UNKNOWN.match(what):
        struct = _STRUCTS[path.partition("[")[0].partition(".")[0]]
        names = tuple(each.encode_name for each in fields(struct))
        return f"{where}there is no field {unknown[1]!r}; {_hint(unknown[1], names)}"
    if expected := _EXPECTED.match(what):
        wanted, got = (_WORDS.get(word, word) for word in expected.groups())
        field = path.rpartition(".")[2].partition("[")[0]
        unit = f" ({_UNITS[field]})" if field in _UNITS else ""
        return f"{where}there must be {wanted}{unit}, not {got}"
    return f"{where}{what}"


# What can be simulated ----------------------------------------------------------------------


def check_plan(plan: Plan) -> None:
    """Refuse what can't be simulated.

    Raises:
        BadRequest: Says what is wrong and where.
    """
    if plan.ordering not in ORDERINGS:
        raise BadRequest(f"ordering: {_not_one_of(plan.ordering, tuple(ORDERINGS))}")
    check_amount("ageing", plan.ageing, least=0.0, most=1e6)
    for name, seconds in (("until", plan.until), ("heartbeat", plan.heartbeat)):
        if seconds is not None:
            check_amount(name, seconds, least=0.001, most=SECONDS_MAX)
    _check_workers(plan)
    if not plan.load:
        raise BadRequest("load: nothing comes: say at least `load: [{tasks: 1000, rate: 1}]`")
    for at, load in enumerate(plan.load):
        _check_load(load, f"load[{at}]")
    for at, fault in enumerate(plan.faults):
        _check_fault(fault, f"faults[{at}]")
    for name, settings in plan.queues.items():
        _check_queue(name, settings)
    for name, size in plan.limits.items():
        check_task(TaskSpec(limits={name: 1}), "the plan")
        check_amount(f"limits: {name}", size, least=0, most=AMOUNT_MAX)


def check_policies(plan: Plan, policies: Mapping[str, PolicyFactory]) -> None:
    """Refuse a placement that there is not, whoever asks for it.

    Raises:
        BadRequest: Says which, and where.
    """
    named = [("", plan.placement)]
    named += [(f"load[{at}].", load.placement) for at, load in enumerate(plan.load) if load.placement is not None]
    named += [(f"queues: {name}: ", each.placement) for name, each in plan.queues.items() if each.placement is not None]
    for where, placement in named:
        try:
            check_placement(placement, policies)
        except BadSpec as error:
            raise BadRequest(f"{where}{error}") from None


def check_task(template: TaskSpec, where: str) -> None:
    """Refuse a task that a coordinator would refuse.

    Raises:
        BadRequest: One of its fields is wrong; names it.
    """
    try:
        check_template(encode_spec(replace(template, workload=SyntheticWork("cpu", 0.0))))
    except BadSpec as error:
        raise BadRequest(f"{where}.{error}") from None
    except OverflowError:
        raise BadRequest(f"{where}: has a number that is too large for anything") from None


def _check_workers(plan: Plan) -> None:
    for at, worker in enumerate(plan.workers):
        _check_worker(worker, f"workers[{at}]")
    count = sum(worker.count for worker in plan.workers)
    if not 1 <= count <= WORKERS_MAX:
        raise BadRequest(f"workers: there are {count:,}: it must be 1 to {WORKERS_MAX:,}")


def _check_worker(worker: WorkerPlan, where: str) -> None:
    check_amount(f"{where}.count", worker.count, least=0, most=WORKERS_MAX)
    check_amount(f"{where}.speed", worker.speed, least=0.001, most=1000.0)
    check_amount(f"{where}.starts_at", worker.starts_at, least=0.0, most=SECONDS_MAX)
    amounts = {"cpu": worker.cpu, "memory": worker.memory, **worker.resources}
    for name, amount in [*amounts.items(), *(("gpus", card) for card in worker.gpus)]:
        check_amount(f"{where}.{name}", amount, least=0, most=AMOUNT_MAX)
    if worker.max_tasks is not None:
        check_amount(f"{where}.max_tasks", worker.max_tasks, least=0, most=AMOUNT_MAX)
    if not worker.name or not worker.name.isprintable():
        raise BadRequest(f"{where}.name: {worker.name!r} can't be a name")


def _check_load(load: LoadPlan, where: str) -> None:
    check_amount(f"{where}.starts_at", load.starts_at, least=0.0, most=SECONDS_MAX)
    check_task(replace(task_of(load), resources=load.resources), where)
    if load.tasks is not None:
        check_amount(f"{where}.tasks", load.tasks, least=1, most=TASKS_MAX)
    if load.trace is not None:
        _check_trace(load, where)
        return
    if load.time_scale != _MADE_UP.time_scale:
        raise BadRequest(f"{where}.time_scale: goes with a trace, and there is none")
    check_amount(f"{where}.mean_duration", load.mean_duration, least=0.0, most=SECONDS_MAX)
    check_amount(f"{where}.shapes", load.shapes, least=0, most=100_000)
    given = [name for name in ("rate", "tasks", "duration") if getattr(load, name) is not None]
    if len(given) != 2:
        told = " and ".join(given) or "none"
        raise BadRequest(f"{where}: give two of rate, tasks and duration, not {told}: the third follows from them")
    for name, least, most in (("rate", 1e-6, 1e7), ("duration", 0.001, SECONDS_MAX)):
        value = getattr(load, name)
        if value is not None:
            check_amount(f"{where}.{name}", value, least=least, most=most)


def _check_trace(load: LoadPlan, where: str) -> None:
    check_amount(f"{where}.time_scale", load.time_scale, least=1e-9, most=1e9)
    for name in _NOT_OF_TRACES:
        if getattr(load, name) != getattr(_MADE_UP, name):
            raise BadRequest(f"{where}.{name}: goes without a trace, which says that itself: leave one out")


def _check_queue(name: str, settings: QueuePlan) -> None:
    check_task(TaskSpec(queue=name), f"queues: {name!r} is no name for one")
    try:
        check_queue_settings(settings)
    except BadRequest as error:
        raise BadRequest(f"queues: {name}: {error}") from None


def _check_fault(fault: FaultPlan, where: str) -> None:
    if fault.kind not in FAULT_KINDS:
        raise BadRequest(f"{where}.kind: {_not_one_of(fault.kind, tuple(FAULT_KINDS))}")
    if fault.at is not None and fault.every is not None:
        raise BadRequest(f"{where}: say when: give one of at and every, not both")
    if fault.at is None and fault.every is None and fault.commit is None:
        raise BadRequest(f"{where}: say when: give one of at and every")
    for name in _OF_SOME_FAULTS:
        if getattr(fault, name) is not None and name not in FAULT_KINDS[fault.kind]:
            kinds = ", ".join(kind for kind, fields in FAULT_KINDS.items() if name in fields)
            raise BadRequest(f"{where}.{name}: goes with {kinds}, not with {fault.kind}")
    bounds = (
        ("at", fault.at, 0.0, SECONDS_MAX),
        ("every", fault.every, 0.001, SECONDS_MAX),
        ("for", fault.lasts, 0.0, SECONDS_MAX),
        ("speed", fault.speed, 0.001, 1000.0),
        ("part", fault.part, 0.0, 1.0),
        ("delay", fault.delay, 0.0, SECONDS_MAX),
        ("commit", fault.commit, 1, TASKS_MAX),
    )
    for name, value, least, most in bounds:
        if value is not None:
            check_amount(f"{where}.{name}", value, least=least, most=most)


def _not_one_of(given: str, known: tuple[str, ...]) -> str:
    return f"there is no {given!r}; {_hint(given, known)}"


def _hint(given: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(given, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
