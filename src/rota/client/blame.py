"""Which variable it is that can't be pickled: looked for when pickling has failed, and told by name.

What fails is taken apart, and each part tried alone: the variables of a function, the items of a container, the
attributes of an object; then the part that fails, down to one that has no failing part. The search has
bounds in depth and in the number of parts, and costs nothing as long as all is well.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import islice
from types import FrameType, FunctionType, GeneratorType, MethodType, ModuleType, TracebackType
from typing import Any, Final

import cloudpickle

from rota.client.reach import MISSING, variables_of
from rota.core.errors import NotPicklable

__all__ = ["argument_error", "function_error"]

DEPTH_MAX: Final = 12
"""Steps from what was given to what is blamed."""

PARTS_MAX: Final = 5000
"""Parts that are tried in one search, each by pickling it."""

ITEMS_MAX: Final = 1000
"""Items of one container that are tried."""

_OPEN_INSIDE: Final = "open it inside the function"
_MAKE_INSIDE: Final = "make it inside the function"


@dataclass(frozen=True)
class Step:
    """A part of something: ``path`` is how it is reached from the whole, as Python writes it."""

    path: str
    value: object
    kind: str = ""


@dataclass(frozen=True)
class Culprit:
    """What can't be pickled: the steps that lead to it, at least one."""

    steps: tuple[Step, ...]

    @property
    def first(self) -> Step:
        """The variable, argument or attribute that the user knows by name."""
        return self.steps[0]

    @property
    def value(self) -> object:
        """What is to blame."""
        return self.steps[-1].value

    @property
    def path(self) -> str:
        """The whole way, such as ``args[0]['conn'].socket``."""
        return "".join(step.path for step in self.steps)


def argument_error(
    name: str, args: tuple[object, ...], kwargs: Mapping[str, object], error: BaseException
) -> NotPicklable:
    """Say which argument of a call it is that can't be pickled.

    Args:
        name: What the function is called.
        args: Its positional arguments.
        kwargs: Its named arguments.
        error: What pickling raised.
    """
    search = _Search()
    for index, value in enumerate(args):
        if (found := search.look(Step(f"args[{index}]", value))) is not None:
            return _argument_error(f"argument {index + 1} of {name}", found, error)
    for key, value in kwargs.items():
        if (found := search.look(Step(key, value))) is not None:
            return _argument_error(f"argument `{key}` of {name}", found, error)
    return NotPicklable(f"the arguments of {name} can't be pickled: {_reason(error)}")


def function_error(name: str, function: object, error: BaseException) -> NotPicklable:
    """Say which variable of a function, or of what it calls, it is that can't be pickled.

    Args:
        name: What the function is called.
        function: It, or another callable.
        error: What pickling raised.
    """
    found = _Search().look(Step("", function))
    if found is None or len(found.steps) == 1:
        what = "" if isinstance(function, FunctionType) else f" ({_article(function)})"
        return NotPicklable(f"{name}{what} can't be pickled: {_reason(error)}")
    owner = name
    steps = found.steps[1:]
    # From function to function, the last of them is the one to mend.
    while len(steps) > 1 and isinstance(steps[0].value, FunctionType):
        owner = f"{steps[0].value.__qualname__}, which {owner} calls,"
        steps = steps[1:]
    return _function_error(owner, Culprit(steps), error)


def _argument_error(what: str, found: Culprit, error: BaseException) -> NotPicklable:
    culprit = _article(found.value)
    if len(found.steps) == 1:
        return NotPicklable(f"{what} ({culprit}) can't be pickled: {_advice(found.value, error)}", path=found.path)
    return NotPicklable(
        f"{what} can't be pickled: {found.path} is {culprit}; {_advice(found.value, error)}", path=found.path
    )


def _function_error(owner: str, found: Culprit, error: BaseException) -> NotPicklable:
    first = found.first
    name = first.path.lstrip(".")
    what = {
        "variable": f"the function {owner} uses the variable `{name}`",
        "default of the parameter": f"the function {owner} has a default for its parameter `{name}`",
    }.get(first.kind, f"{owner} has the {first.kind or 'attribute'} `{name}`")
    if first.kind.startswith("attribute of the module"):
        what = f"the function {owner} uses the {first.kind.removeprefix('attribute of the ')}, whose variable `{name}`"
        what = what.replace(", whose", "'s")
    if len(found.steps) == 1:
        return NotPicklable(
            f"{what} ({_article(found.value)}), which can't be pickled: {_advice(found.value, error)}", path=found.path
        )
    path = found.path.lstrip(".")
    return NotPicklable(
        f"{what}, which can't be pickled: {path} is {_article(found.value)}; {_advice(found.value, error)}", path=path
    )


class _Search:
    """Takes things apart until the part is found that fails by itself."""

    def __init__(self) -> None:
        self._left = PARTS_MAX
        self._seen: dict[int, object] = {}

    def look(self, step: Step) -> Culprit | None:
        """Find what can't be pickled in it, or ``None`` if it can."""
        if not self._fails(step.value):
            return None
        steps = [step]
        # What is known by its kind is not taken apart: nobody wants to hear of the lock inside a future.
        while len(steps) < DEPTH_MAX and _known_advice(steps[-1].value) is None:
            if (inner := self._failing_part(steps[-1].value)) is None:
                break
            steps.append(inner)
        return Culprit(tuple(steps))

    def _failing_part(self, whole: object) -> Step | None:
        for part in _parts_of(whole):
            if id(part.value) in self._seen:
                continue
            self._seen[id(part.value)] = part.value  # kept, so that the id stays its own
            if self._fails(part.value):
                return part
            if self._left <= 0:
                break
        return None

    def _fails(self, value: object) -> bool:
        self._left -= 1
        try:
            # Large buffers are handed over, not copied.
            cloudpickle.Pickler(_Nowhere(), protocol=5, buffer_callback=_ignore).dump(value)
        except Exception:  # noqa: BLE001 - whatever a foreign class raises, it can't be pickled
            return True
        return False


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # any buffer
        return len(data)


def _ignore(buffer: pickle.PickleBuffer) -> None:
    del buffer


def _parts_of(whole: object) -> Iterator[Step]:
    """The parts that are pickled with something, as far as they can be named."""
    match whole:
        case FunctionType():
            for variable in variables_of(whole):
                if variable.value is not MISSING:
                    yield Step(f".{variable.name}", variable.value, variable.kind)
        case MethodType():
            yield Step(".__self__", whole.__self__, "object that it is a method of, as")
            yield Step(".__func__", whole.__func__, "function")
        case ModuleType():
            yield from (Step(f".{name}", value) for name, value in list(vars(whole).items()) if name != "__builtins__")
        case dict():
            for key, value in islice(whole.items(), ITEMS_MAX):
                yield Step(f"[{_short(key)}]", value)
                yield Step(f" key {_short(key)}", key)
        case list() | tuple():
            yield from (Step(f"[{index}]", value) for index, value in enumerate(islice(whole, ITEMS_MAX)))
        case set() | frozenset():
            yield from (Step(f" item {_short(item)}", item) for item in islice(whole, ITEMS_MAX))
        case type():
            yield from (Step(f".{name}", member) for name, member in list(vars(whole).items()))
        case _:
            yield from _attributes_of(whole)


def _attributes_of(whole: object) -> Iterator[Step]:
    """What an object says that it is made of."""
    try:
        reduced = whole.__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - a class that refuses is itself to blame, unless it does for an attribute's sake
        reduced = None
    state = reduced[2] if isinstance(reduced, tuple) and len(reduced) > 2 else None
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        state = {**(state[0] or {}), **state[1]}
    if isinstance(state, dict):
        yield from (Step(f".{name}", value, "attribute") for name, value in state.items())
    elif state is not None:
        yield Step(" (its state)", state)
    if isinstance(reduced, tuple):
        yield from (Step(f" (its part {index})", part) for index, part in enumerate(reduced[1]))


_ADVICE: Final[tuple[tuple[tuple[type, ...], str], ...]] = (
    ((GeneratorType,), "pass a list of what it yields"),
    ((Future,), "pass its result()"),
    ((asyncio.Future,), "await it, and pass the result"),
    ((Executor,), "make another one inside the function"),
    ((io.IOBase, socket.socket), _OPEN_INSIDE),
    ((FrameType, TracebackType), "pass the text that you need of it"),
)

_ADVICE_BY_WORD: Final = (
    (("connection", "cursor", "session", "socket", "client", "engine", "channel"), _OPEN_INSIDE),
    (("lock", "condition", "semaphore", "event", "thread", "queue", "pool", "executor"), _MAKE_INSIDE),
)


def _advice(value: object, error: BaseException) -> str:
    """What to do about it; of what has parts, none of which was found to blame, what pickling said."""
    if isinstance(value, list | tuple | dict | set | frozenset | FunctionType):
        return _reason(error)
    if (known := _known_advice(value)) is not None:
        return known
    name = type(value).__name__.lower()
    for words, advice in _ADVICE_BY_WORD:
        if any(word in name for word in words):
            return advice
    return _MAKE_INSIDE


def _known_advice(value: object) -> str | None:
    return next((advice for kinds, advice in _ADVICE if isinstance(value, kinds)), None)


def _article(value: object) -> str:
    """What it is, such as "a sqlite3.Connection" or "an open file"."""
    kind = type(value)
    if isinstance(value, io.IOBase):
        return "an open file"
    module = "" if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}."
    name = f"{module}{kind.__qualname__}"
    return f"{'an' if name.lstrip('_')[:1].lower() in set('aeiou') else 'a'} {name}"


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a foreign __repr__ may raise anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip()
