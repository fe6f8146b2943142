"""Functions and their arguments, made ready to travel.

`Callables` makes a `Template` of a function and its options: the encoded spec without arguments, and the
pickled function, which the coordinator keeps once under its digest. Templates are remembered by the identity of the
function, weakly, so that submitting the same function again costs 0.3 µs. A function that travels by
value takes what it uses from outside along *as it is when it is submitted*:

- If a variable, a helper or a default was bound anew since, that is noticed (one comparison a name).
- If it uses things that can change in place (a list, an object), it is pickled again each time, and sent again
  if that gives other bytes; unless its pickle is over `LARGE_BYTES`: then what is in place stays as it was
  at the first time. What changes belongs in the arguments.

The same function gives the same digest in every run of a script as long as it uses no classes of the script's own
(cloudpickle names those at random) and no sets of texts.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import PurePath
from re import Pattern
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any, Final
from uuid import UUID

from rota.client.blame import argument_error, function_error
from rota.client.decorator import TaskFunction
from rota.client.modules import mentions_local, travels_by_value
from rota.client.options import DEFAULT_OPTIONS, Options
from rota.client.reach import MISSING, functions_reached, variables_of
from rota.core.model import GangTerms
from rota.core.spec import LOSSES_DEFAULT, QUEUE_DEFAULT, TaskSpec, encode_spec
from rota.functions.pickling import digest_of, dump_call, dump_function, plain

__all__ = ["Callables", "Template", "callable_name", "dump_arguments", "options_of"]

PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The minor version that pickles here."""

LARGE_BYTES: Final = 64 << 10
"""Of a pickled function: a larger one is not pickled again to see whether something in it has changed."""

VARIABLES_MAX: Final = 200
"""Of a function and its helpers, looked at on each submit: with more it is pickled each time."""

TEMPLATES_MAX: Final = 64
"""Kept for one function: more kinds of options than that are made anew each time."""

NAME_CHARS_MAX: Final = 200

_UNCHANGING: Final = frozenset(
    {
        *(NoneType, bool, int, float, complex, str, bytes, range, type(Ellipsis), type(NotImplemented)),
        *(date, datetime, time, timedelta, Decimal, Fraction, UUID, Pattern),
        *(BuiltinFunctionType, CodeType, type),
    }
)
"""Types whose values stay what they are."""


@dataclass(frozen=True, eq=False, slots=True)
class Template:
    """What the tasks of a function have in common.

    Args:
        encoded: The encoded spec, without arguments.
        function_digest: SHA-256 of ``pickled``, which is to be a blob of the coordinator's.
        pickled: The function.
        name: What people call it.
    """

    encoded: bytes
    function_digest: str
    pickled: bytes
    name: str


class Callables:
    """The functions that a client has submitted. Safe in threads: at worst something is made twice."""

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}

    def template_of(
        self, function: Callable[..., Any], options: Options | None = None, *, job: str | None = None
    ) -> Template:
        """Make ready a function, or take what was made before.

        Args:
            function: Any callable.
            options: How its tasks are run; what ``@rota.task`` said of it, or nothing, if not given.
            job: The value of the label ``job``, if they are to have one.

        Raises:
            NotPicklable: It can't be pickled; names the variable that is to blame.
            TypeError: It can't be called.
        """
        kept = self._kept.get(id(function))
        if kept is None or kept.reference() is not function or not kept.is_current():
            kept = self._keep(function)
        key = (options, job)
        template = kept.templates.get(key)
        if template is None:
            template = _template(kept, options_of(function) if options is None else options, job)
            if len(kept.templates) >= TEMPLATES_MAX:
                kept.templates.clear()
            kept.templates[key] = template
        return template

    def _keep(self, function: Callable[..., Any]) -> _Kept:
        """Pickle a function, and remember it for as long as it lives."""
        if not callable(function):
            raise TypeError(f"submit takes a function and its arguments, and {function!r} can't be called")
        key = id(function)
        before = self._kept.get(key)
        kept = _pickled(function)
        if before is not None and before.reference() is function and before.digest == kept.digest:
            kept.templates = before.templates
        try:
            kept.reference = weakref.ref(function, partial(_forget, self._kept, key))
        except TypeError:
            return kept  # made anew each time: nothing tells when another object takes its id
        self._kept[key] = kept
        return kept


def dump_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], *, name: str = "the function"
) -> list[bytes | memoryview]:
    """Lay out the arguments of a call as the pieces of an envelope.

    Args:
        args: Positional ones.
        kwargs: Named ones.
        name: What the function is called, for errors.

    Raises:
        NotPicklable: One can't be pickled; says which, and where in it.
    """
    try:
        return dump_call(args, kwargs, is_local=mentions_local)
    except Exception as error:  # a foreign class may raise anything
        raise argument_error(name, args, kwargs, error) from error


def options_of(function: object) -> Options:
    """What ``@rota.task`` said of a function; `DEFAULT_OPTIONS` of any other."""
    return function.task_options if isinstance(function, TaskFunction) else DEFAULT_OPTIONS


def callable_name(function: object) -> str:
    """What people call a function: its name, with its class if it has one.

    >>> callable_name(sum), callable_name("a b".split), callable_name(partial(max, 1))
    ('sum', 'str.split', 'max')
    """
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str):
        name = type(function).__qualname__
    name = name.replace("<locals>.", "")
    return "".join(letter for letter in name if letter.isprintable())[:NAME_CHARS_MAX] or "function"


@dataclass(eq=False, slots=True)
class _Kept:
    """A pickled function, and how to see whether it still is what was pickled."""

    pickled: bytes
    digest: str
    name: str
    codes: tuple[tuple[weakref.ref[FunctionType], CodeType, Any], ...]
    names: tuple[tuple[Mapping[str, object], str, object], ...]
    cells: tuple[tuple[weakref.ref[FunctionType], int, Callable[[], object]], ...]
    is_repeated: bool
    reference: Callable[[], object]
    templates: dict[tuple[Options | None, str | None], Template]

    def is_current(self) -> bool:
        """Whether pickling it again would, as far as can be seen cheaply, give the same."""
        if self.is_repeated:
            return False
        for reference, code, defaults in self.codes:
            function = reference()
            if function is None or function.__code__ is not code or function.__defaults__ is not defaults:
                return False
        # 50 ns a name, where a method of each variable takes 200.
        for space, name, value in self.names:
            if space.get(name, MISSING) is not value:
                return False
        for reference, index, value_of in self.cells:
            function = reference()
            if function is None or _cell_value(function, index) is not value_of():
                return False
        return True


def _pickled(function: Callable[..., Any]) -> _Kept:
    name = callable_name(function)
    plain = function.__wrapped__ if isinstance(function, TaskFunction) else function
    thing = plain if isinstance(function, TaskFunction) and travels_by_value(function) else function
    is_by_name = isinstance(thing, FunctionType | BuiltinFunctionType | type | TaskFunction)
    reached = list(functions_reached(thing)) if isinstance(thing, FunctionType) and travels_by_value(thing) else []
    variables = [variable for one in reached for variable in variables_of(one)]
    can_change = not is_by_name or not all(_is_unchanging(variable.value) for variable in variables)
    try:
        pickled = dump_function(thing)
    except Exception as error:  # a foreign class may raise anything
        raise function_error(name, thing, error) from error
    is_small = len(pickled) <= LARGE_BYTES
    return _Kept(
        pickled=pickled,
        digest=digest_of(pickled),
        name=name,
        # Functions are referred to weakly: what is kept of one must not keep it, by way of a function that knows it.
        codes=tuple((weakref.ref(one), one.__code__, one.__defaults__) for one in reached),
        names=tuple((v.place, v.name, v.value) for v in variables if not isinstance(v.place, CellType))[:VARIABLES_MAX],
        cells=tuple(
            (weakref.ref(one), index, _holder_of(_cell_value(one, index)))
            for one in reached
            for index in range(len(one.__closure__ or ()))
        ),
        is_repeated=is_small and (can_change or len(variables) > VARIABLES_MAX),
        reference=_nothing,
        templates={},
    )


def _cell_value(function: FunctionType, index: int) -> object:
    try:
        return (function.__closure__ or ())[index].cell_contents
    except ValueError:
        return MISSING


def _holder_of(value: object) -> Callable[[], object]:
    """What gives the value back, and keeps it unless it is a function."""
    return weakref.ref(value) if isinstance(value, FunctionType) else partial(plain, value)


def _is_unchanging(value: object) -> bool:
    """Whether a value that a function uses is the same as long as it is the same object.

    Functions that travel along are looked at by themselves; so are the attributes used of local modules.
    """
    if type(value) in _UNCHANGING or value is MISSING:
        return True
    match value:
        case tuple() | frozenset():
            return all(_is_unchanging(item) for item in value)
        case MethodType() | partial():
            return False
        case FunctionType() | type() | Enum() | PurePath() | TaskFunction():
            return True
        case ModuleType():
            return True
    return False


def _template(kept: _Kept, options: Options, job: str | None) -> Template:
    labels = dict(options.labels) if job is None else {**options.labels, "job": job}
    spec = TaskSpec(
        name=options.name,
        env=dict(options.env),
        cwd=options.cwd,
        resources=dict(options.resources),
        tags=list(options.tags),
        priority=options.priority,
        queue=options.queue if options.queue is not None else QUEUE_DEFAULT,
        placement=options.placement,
        affinity=options.affinity,
        limits=dict(options.limits),
        timeout=options.timeout,
        retries=options.retries,
        backoff=options.backoff,
        start_at=options.start_at,
        delay=options.delay,
        deadline=options.deadline,
        labels=labels,
        function=kept.digest,
        callable=kept.name,
        python=PYTHON,
        requirements=list(options.requirements),
        exclusive=options.exclusive,
        gang=None if options.gang is None else GangTerms(*options.gang),
        losses=options.losses if options.losses is not None else LOSSES_DEFAULT,
    )
    return Template(encode_spec(spec), kept.digest, kept.pickled, kept.name)


def _nothing() -> None:
    """The reference of what can't be referred to."""


def _forget(kept: dict[int, _Kept], key: int, reference: weakref.ref[Any]) -> None:
    found = kept.get(key)
    if found is not None and found.reference is reference:
        del kept[key]
