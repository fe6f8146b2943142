"""Exceptions on their way back: the exception itself where it can travel, and always its traceback as text.

What travels is a pair: the pickled exception, and the text, so that the text can be read where the class
is missing. The exception takes along its causes and contexts, its notes, and in a group those of its members.
A member of such a family that can't be pickled, or not made again, is replaced by a `LostException` that
says what it was; if that is the exception itself, the text alone comes back.
"""

from __future__ import annotations

import io
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final

import cloudpickle

from rota.functions.pickling import PROTOCOL, dump_value, load_pickle, load_value

__all__ = [
    "LostException",
    "RemoteTraceback",
    "describe_failure",
    "dump_failure",
    "load_failure",
    "sendable",
    "traceback_text",
]

TEXT_CHARS_MAX: Final = 32_000
"""Of a traceback: beyond, its middle is left out."""

FAMILY_MAX: Final = 100
"""Exceptions that travel as one: beyond, causes and contexts are left behind."""


class RemoteTraceback(Exception):
    """The cause of an exception that came from a worker: its traceback there, as text.

    Its own ``__cause__`` is the cause that the exception had there.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text}"


class LostException(Exception):
    """Stands for a cause or a member of a group that could not be pickled; its text says what it was."""


def describe_failure(error: BaseException) -> str:
    """One line for the record: the type and the message, at most 1,000 characters."""
    try:
        lines = traceback.format_exception_only(error)
    except BaseException:  # noqa: BLE001 - a foreign __str__ may raise anything, the failure itself must come through
        lines = [f"{type(error).__name__}: (its message can't be made)"]
    return sendable("".join(lines).strip().replace("\n", " "))[:1000]


def sendable(text: str) -> str:
    r"""The text with what is no Unicode escaped: no message with that could leave the worker.

    Names of files that are not UTF-8 have such characters.

    >>> print(sendable("caf\udce9"))
    caf\udce9
    """
    return text.encode("utf-8", "backslashreplace").decode()


def dump_failure(error: BaseException) -> list[bytes | memoryview]:
    """Lay out an exception; one that can't be pickled is told of in words."""
    text = traceback_text(error)
    try:
        pickled = _pickled(error)
    except BaseException:  # noqa: BLE001 - as above
        pickled = None
    return dump_value((pickled, text))


def load_failure(envelope: bytes | memoryview) -> tuple[BaseException | None, str]:
    """The exception, or ``None`` if it can't be made here, and its traceback as text.

    The exception has a `RemoteTraceback` as its cause, which in turn has the original one.
    """
    text = ""
    try:
        pickled, text = load_value(envelope)
        error = None if pickled is None else load_pickle(pickled)
    except Exception as failed:  # noqa: BLE001 - as above
        return None, f"{text}\n(the exception could not be made here: {describe_failure(failed)})".lstrip()
    if not isinstance(error, BaseException):
        return None, text
    remote = RemoteTraceback(text)
    remote.__cause__ = error.__cause__
    error.__cause__ = remote
    return error, text


def _pickled(error: BaseException) -> bytes | None:
    """The exception with its family, or ``None`` if it can't be made again."""
    ways = {id(one): way for one in _family(error) if (way := _way_of(one)) is not None}
    if id(error) not in ways:
        return None
    file = io.BytesIO()
    _FamilyPickler(file, ways).dump(error)
    return file.getvalue()


Way = Callable[[BaseException], tuple[Any, ...]]
"""How an exception is reduced: to a function, its arguments and the attributes to set."""


class _FamilyPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    """Pickles exceptions with what hangs on them.

    Args:
        file: To write to.
        ways: By the ids of the exceptions that can travel: how. The others are told of in words.
    """

    def __init__(self, file: io.BytesIO, ways: dict[int, Way]) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._ways = ways

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, BaseException):
            return super().reducer_override(obj)
        way = self._ways.get(id(obj))
        if way is None:
            return LostException, (describe_failure(obj),)
        make, args, attributes = way(obj)
        state = (attributes, obj.__cause__, obj.__context__, obj.__suppress_context__)
        # The state comes after the exception itself, so one that hangs on itself by its context is no trouble.
        return make, args, state, None, None, _restore


def _family(error: BaseException) -> Iterator[BaseException]:
    """The exception, its causes and contexts, and the members of groups, each once."""
    waiting: list[BaseException | None] = [error]
    seen: dict[int, BaseException] = {}
    while waiting and len(seen) < FAMILY_MAX:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen[id(one)] = one
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _way_of(error: BaseException) -> Way | None:
    """How this exception, looked at alone, comes out the same: as its class says, or past its ``__init__``."""
    for way in (_as_its_class_says, _past_init):
        try:
            # The members of a group are looked at by themselves.
            make, args, attributes = way(error)
            if isinstance(error, BaseExceptionGroup):
                args = (args[0], [ValueError()], *args[2:])
            copy = pickle.loads(cloudpickle.dumps((make, args, attributes), protocol=PROTOCOL))
            made = copy[0](*copy[1])
            _set(made, copy[2])
            if type(made).__name__ == type(error).__name__ and _is_alike(made, error):
                return way
        except BaseException:  # noqa: BLE001 - whatever a foreign class raises means that this way is closed
            continue
    return None


def _is_alike(made: BaseException, error: BaseException) -> bool:
    """An ``__init__`` that makes up its message from its arguments gives another message the second time."""
    return isinstance(error, BaseExceptionGroup) or str(made) == str(error)


def _as_its_class_says(error: BaseException) -> tuple[Any, ...]:
    reduced = error.__reduce_ex__(PROTOCOL)
    if not isinstance(reduced, tuple) or len(reduced) not in {2, 3}:
        raise pickle.PicklingError("not reduced in the way of exceptions")
    make, args, *state = reduced
    return make, args, state[0] if state else None


def _past_init(error: BaseException) -> tuple[Any, ...]:
    return _make_past_init, (type(error), error.args), dict(vars(error))


def _make_past_init(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Make an exception whose ``__init__`` takes something else than it hands on, without calling it."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _restore(error: BaseException, state: tuple[Any, ...]) -> None:
    attributes, cause, context, is_suppressed = state
    _set(error, attributes)
    error.__cause__ = cause
    error.__context__ = context
    error.__suppress_context__ = is_suppressed


def _set(error: BaseException, attributes: Any) -> None:
    if attributes is None:
        return
    if hasattr(error, "__setstate__"):
        error.__setstate__(attributes)
    else:
        vars(error).update(attributes)


def traceback_text(error: BaseException) -> str:
    """The traceback without our own frames at its beginning, as Python prints it."""
    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("rota."):
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:  # noqa: BLE001 - as in describe_failure
        text = describe_failure(error)
    if len(text) <= TEXT_CHARS_MAX:
        return text
    half = TEXT_CHARS_MAX // 2
    return f"{text[:half]}\n  [{len(text) - 2 * half:,} characters left out]\n{text[-half:]}"
