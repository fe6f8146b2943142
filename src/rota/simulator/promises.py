"""What must hold of a run, by name: a failure says which promise is broken, so that two can be told apart.

The numbers are those of the list of invariants in ``docs/invariants.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import wraps
from typing import Final, ParamSpec, TypeVar

__all__ = ["BrokenPromise", "Promise", "keep", "keeps"]

P = ParamSpec("P")
R = TypeVar("R")


class Promise(Enum):
    """Number and sentence of each."""

    ACCEPTED = ("I1", "no accepted task is lost")
    DURABLE = ("I2", "nothing is told, run or published that is not on the record")
    NUMBERS = ("I3", "commits have numbers without gaps, each written by one leader")
    RECOVERY = ("I4", "a restart from the record at any commit holds and does the same")
    EPOCHS = ("I8", "epochs rise and never repeat")
    STATES = ("I13", "a task is in one state, and states change along the arrows")
    CURRENT = ("I14", "at most one attempt of a task is current, and attempt numbers rise")
    STALE = ("I15", "what is told of an attempt that is not current changes nothing")
    ONE_END = ("I16", "each attempt ends once on the record, as it ended in the world")
    BUDGETS = ("I17", "retries and losses are charged for what happened, and within their budgets")
    ACCOUNTED = ("I18", "each task waits for a reason that is so, or a worker has it")
    REST = ("I19", "without faults everything ends in bounded time")
    CANCELLED = ("I20", "what was cancelled does not start, and ends as cancelled")
    EXCLUSIVE = ("I23", "no two attempts of an exclusive task run at once")
    ROOM = ("I24", "lanes are within capacity, on both sides of the wire")
    PREEMPTION = ("I25", "only much lower priorities are preempted, at no charge")
    CAPS = ("I26", "limits and caps hold, also over a restart")
    STARVATION = ("I27", "with ageing nobody waits for ever")
    CLOSED = ("I28", "drained, suspicious and leaving workers get nothing")
    HELD = ("I34", "no result is lost that a living worker holds, and nothing runs that nobody knows of")
    PRIORITY = ("I41", "among equals none starts before one that goes first")
    SHARES = ("I42", "queues get what their weights say")
    GANGS = ("I43", "a gang runs together or not at all")
    LINES = ("I44", "nobody waits for ever behind a task that takes longer than was thought")
    NO_CRASH = ("I45", "no command makes the core, the turn or the agent fail")

    @property
    def number(self) -> str:
        return self.value[0]

    @property
    def sentence(self) -> str:
        return self.value[1]


class BrokenPromise(AssertionError):
    """A promise was broken."""

    def __init__(self, promise: Promise, what: str) -> None:
        super().__init__(f"{promise.number}, {promise.sentence}: {what}")
        self.promise: Final = promise


def keeps(promise: Promise) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a check: what it asserts belongs to this promise."""

    def mark(check: Callable[P, R]) -> Callable[P, R]:
        @wraps(check)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return check(*args, **kwargs)
            except BrokenPromise:
                raise
            except AssertionError as error:
                raise BrokenPromise(promise, str(error)) from error

        return checked

    return mark


def keep(promise: Promise, check: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a check that knows nothing of promises."""
    try:
        return check(*args, **kwargs)
    except AssertionError as error:
        raise BrokenPromise(promise, str(error)) from error
