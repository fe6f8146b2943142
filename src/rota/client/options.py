"""What a user says of the tasks of a function: needs, budgets, names. Refuses nonsense where it is said.

The same options are taken by ``@rota.task(...)`` and ``.options(...)``. They compare by value, and are
frozen: `Options.changed` gives others. What they become on the wire is `rota.client.callables`' to know;
the finer rules, such as which letters a tag may have, are the coordinator's.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import InitVar, dataclass, field, fields, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final, Self

__all__ = ["DEFAULT_OPTIONS", "Options", "refuse_as_arguments", "refuse_unknown"]

PRIORITIES: Final = ("low", "medium", "normal", "high", "critical")

MILLICORES_LEAST: Final = 10
"""Of ``resources={"cpu": …}``, which counts thousandths of a core: less was meant as cores."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])i?B?", re.ASCII | re.IGNORECASE)
_MIB: Final[Mapping[str, float]] = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the tasks of a function are to be run.

    Args:
        name: What the tasks are called in lists; the function's name if not said.
        cpu: Cores that each reserves, such as 2 or 0.5; 1 if nothing is said. Becomes part of ``resources``.
        memory: Memory that each may use: ``"4G"``, ``"512M"``, or a number of MiB. Likewise.
        resources: Any amounts by name, whole numbers in the units of the API: ``cpu`` in thousandths of a core,
            ``memory`` and ``gpu_memory`` in MiB, ``gpu``, your own.
        tags: What the worker must have: ``"gpu"``, ``"!spot"``, ``"ssd~"`` (preferred), ``"cuda>=12"``.
        placement: The policy that chooses a worker, such as ``"binpack"``.
        affinity: What ``consistent-hash`` and ``spread`` know the tasks by.
        priority: 0 to 100, or ``"low"``, ``"normal"``, ``"high"``, ``"critical"``.
        queue: The queue to wait in.
        limits: What of the cluster's limits each holds while it runs: ``{"licence-x": 1}``.
        timeout: Seconds (or a timedelta) that one attempt may take.
        retries: Further attempts after the function failed.
        losses: Further attempts after a worker was lost.
        backoff: Seconds before the first retry, doubled with each.
        delay: Seconds before it may start.
        start_at: The moment before which it must not start, with its time zone.
        deadline: Seconds from now, or a moment, by which it must have ended.
        labels: Texts to find it by.
        env: Environment variables set while it runs.
        cwd: Where it runs: an absolute path on the worker.
        exclusive: Never run it twice at once, also where its worker can't be reached: its next attempt waits until
            the last has been stopped for sure.
        gang: An id and a size: as many tasks run together, or none does. See ``rota.current().gang``.
        requirements: Packages to run with, such as ``["pandas==2.2"]``: installed once on each worker that needs them.

    Raises:
        TypeError: A value is of a type that can't be meant.
        ValueError: A value is out of its range.
    """

    name: str | None = None
    cpu: InitVar[float | None] = None
    memory: InitVar[str | int | None] = None
    resources: Mapping[str, int] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    priority: int | str | None = None
    queue: str | None = None
    placement: str | None = None
    affinity: str | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    timeout: float | None = None
    retries: int = 0
    losses: int | None = None
    backoff: float | None = None
    delay: float | None = None
    start_at: datetime | None = None
    deadline: datetime | float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    exclusive: bool = False
    gang: tuple[str, int] | None = None
    requirements: tuple[str, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self, cpu: float | None, memory: str | int | None) -> None:
        for name in ("tags", "requirements"):
            self._set(name, _texts(name, getattr(self, name)))
        for name in ("labels", "env"):
            self._set(name, _pairs(name, getattr(self, name)))
        for name in ("name", "queue", "placement", "affinity", "cwd"):
            _check_text(name, getattr(self, name))
        for name in ("retries", "losses"):
            _check_count(name, getattr(self, name))
        for name in ("timeout", "backoff", "delay"):
            self._set(name, _seconds(name, getattr(self, name), may_be_zero=name != "timeout"))
        if not isinstance(self.deadline, datetime):
            self._set("deadline", _seconds("deadline", self.deadline, may_be_zero=False))
        for name in ("start_at", "deadline"):
            _check_moment(name, getattr(self, name))
        _check_priority(self.priority)
        self._set("limits", _counts("limits", self.limits))
        if not isinstance(self.exclusive, bool):
            raise TypeError(f"exclusive must be True or False, got {self.exclusive!r}")
        _check_gang(self.gang)
        self._set("resources", _amounts(self.resources, cpu, memory))
        # Made once: an options object is looked up at each submit (0.1 instead of 2 µs).
        values = (getattr(self, one.name) for one in fields(self) if one.compare)
        self._set("_hash", hash(tuple(frozenset(v.items()) if isinstance(v, dict) else v for v in values)))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, **options: Any) -> Self:  # checked one by one
        """Make options from what a user wrote; an unknown name is refused with the near one."""
        refuse_unknown(options)
        return cls(**options)

    def changed(self, **options: Any) -> Self:  # checked one by one
        """Options that differ in these; ``resources``, ``labels``, ``env`` and ``limits`` add to what is there."""
        refuse_unknown(options)
        for name in ("resources", "labels", "env", "limits"):
            if name in options and isinstance(options[name], Mapping):
                options[name] = {**getattr(self, name), **options[name]}
        return replace(self, **options)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def refuse_unknown(options: Iterable[str]) -> None:
    """See that each name is an option.

    Raises:
        TypeError: One is not; names the near one.
    """
    known = ["cpu", "memory", *(one.name for one in fields(Options) if one.init)]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
            raise TypeError(f"there is no option `{name}`: {hint}")


def refuse_as_arguments(fn: Callable[..., Any], names: Iterable[str]) -> None:
    """See that no argument is meant as an option, as in ``submit(f, x, retries=2)``, which other systems take.

    Left to the function, it would fail on a worker with words that say nothing of options.

    Raises:
        TypeError: One is the name of an option, and the function takes no argument of that name; says what to write.
    """
    meant = [name for name in names if name in _NAMES]
    if not meant:
        return
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # some of C don't say
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    taken = {parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY}
    for name in meant:
        if name not in taken:
            called = getattr(fn, "__name__", "f")
            raise TypeError(
                f"{called}() takes no argument {name!r}. As an option of the task it stands before the function: "
                f"submit(rota.task({name}=…)({called}), …)"
            )


_NAMES: Final = frozenset({"cpu", "memory", *(one.name for one in fields(Options) if one.init)})


def _amounts(resources: object, cpu: object, memory: object) -> dict[str, int]:
    """All amounts in the units of the API, with ``cpu`` and ``memory`` among them."""
    amounts = dict(_mapping("resources", resources))
    for name, amount in amounts.items():
        if name in ("memory", "gpu_memory") and isinstance(amount, str):
            amounts[name] = _mib(name, amount)
        _check_count(f"resources[{name!r}]", amounts[name])
    if 0 < amounts.get("cpu", 0) < MILLICORES_LEAST:
        raise ValueError(
            f"resources['cpu'] is in thousandths of a core: {amounts['cpu']} is next to nothing; "
            f"write cpu={amounts['cpu']} for cores"
        )
    if cpu is not None:
        amounts["cpu"] = _millicores(cpu)
    if memory is not None:
        amounts["memory"] = _mib("memory", memory)
    return amounts


def _texts(name: str, values: object) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of texts, got {values!r}")
    texts = tuple(values)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a list of texts, got {text!r} in it")
    return texts


def _pairs(name: str, values: object) -> dict[str, str]:
    pairs = dict(_mapping(name, values))
    for key, value in pairs.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"{name} must map texts to texts, got {key!r}: {value!r}")
    return pairs


def _counts(name: str, values: object) -> dict[str, int]:
    counts = dict(_mapping(name, values))
    for key, value in counts.items():
        _check_count(f"{name}[{key!r}]", value)
    return counts


def _mapping(name: str, values: object) -> Mapping[Any, Any]:  # what is in it is looked at by the caller
    if not isinstance(values, Mapping):
        raise TypeError(f"{name} must be a dictionary, got {values!r}")
    return values


def _check_text(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {value!r}")


def _check_count(name: str, value: object) -> None:
    if value is None and name == "losses":
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < 0:
        raise ValueError(f"{name} can't be negative, got {value}")


def _seconds(name: str, value: object, *, may_be_zero: bool) -> float | None:
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds or a timedelta, got {value!r}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not may_be_zero):
        raise ValueError(f"{name} must be {'at least 0' if may_be_zero else 'more than 0'} seconds, got {value}")
    return float(value)


def _check_moment(name: str, value: object) -> None:
    if value is None or isinstance(value, float):
        return
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, got {value!r}")
    if value.tzinfo is None:
        raise ValueError(f"{name} needs a time zone: {value.isoformat()} has none; try datetime.now(UTC) + …")


def _check_gang(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], str):
        raise TypeError(f"gang must be an id and a size, such as ('train', 4), got {value!r}")
    _check_count("the size of a gang", value[1])


def _check_priority(value: object) -> None:
    if value is None:
        return
    if isinstance(value, str):
        if value not in PRIORITIES:
            raise ValueError(f"priority must be 0 to 100 or one of {', '.join(PRIORITIES)}, got {value!r}")
    elif not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"priority must be a whole number or a word, got {value!r}")
    elif not 0 <= value <= 100:
        raise ValueError(f"priority must be 0 to 100, got {value}")


def _millicores(value: object) -> int:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"cpu must be a number of cores, got {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"cpu can't be {value}")
    return round(value * 1000)


def _mib(name: str, value: object) -> int:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{name} must be a size such as '512M' or '4G', or a number of MiB, got {value!r}")
        return math.ceil(float(match[1]) * _MIB[match[2].upper()])
    _check_count(name, value)
    assert isinstance(value, int)
    return value


DEFAULT_OPTIONS: Final = Options()
"""Nothing said."""
