"""Waiting for a condition, with a bound: the only way in which a test may let time pass.

A condition is any function; it holds when it returns something true, and that value is handed
back. It is looked at in small steps that grow, so that a quick condition costs
milliseconds and a slow one no processor.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, overload

__all__ = ["TIMEOUT_S", "GaveUp", "wait_until", "wait_until_async"]

T = TypeVar("T")

FIRST_STEP_S: Final = 0.002
STEP_S_MAX: Final = 0.05
"""Longest pause between two looks: what a test loses at most once its condition holds."""

TIMEOUT_S: Final = 60.0
"""Generous, since a loaded machine must not fail a test that is right: where the condition comes it costs nothing."""


class GaveUp(AssertionError):
    """The condition did not come to hold in time: says what was waited for and what was seen last."""

    def __init__(self, what: str, *, timeout_s: float, last: object) -> None:
        super().__init__(f"waited {timeout_s:g} s in vain for {what}; last seen: {last!r}")
        self.what = what
        self.last = last


class _Patience:
    """The pauses of one wait, and its end."""

    def __init__(self, what: str, timeout_s: float) -> None:
        self._what = what
        self._timeout_s = timeout_s
        self._ends_at = time.monotonic() + timeout_s
        self._step_s = FIRST_STEP_S

    def next_pause_s(self, last: object) -> float:
        """Say how long to sleep before the next look; the last look comes after the time is over."""
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0.0:
            raise GaveUp(self._what, timeout_s=self._timeout_s, last=last) from (
                last if isinstance(last, Exception) else None
            )
        pause_s = min(self._step_s, left_s)
        self._step_s = min(self._step_s * 1.5, STEP_S_MAX)
        return pause_s


def wait_until(
    condition: Callable[[], T],
    *,
    what: str,
    timeout_s: float = TIMEOUT_S,
    ignoring: tuple[type[Exception], ...] = (),
) -> T:
    """Return what ``condition`` returns as soon as that is true.

    Args:
        condition: Looked at again and again; must be cheap.
        what: Completes the sentence "waited in vain for …".
        timeout_s: After which the wait is given up.
        ignoring: Errors of the condition that mean "not yet", such as `ConnectionError`.

    Raises:
        GaveUp: The time is over.
    """
    patience = _Patience(what, timeout_s)
    while True:
        last: object
        try:
            value = condition()
        except ignoring as error:
            last = error
        else:
            if value:
                return value
            last = value
        time.sleep(patience.next_pause_s(last))


@overload
async def wait_until_async(
    condition: Callable[[], Awaitable[T]],
    *,
    what: str,
    timeout_s: float = TIMEOUT_S,
    ignoring: tuple[type[Exception], ...] = (),
) -> T: ...


@overload
async def wait_until_async(
    condition: Callable[[], T],
    *,
    what: str,
    timeout_s: float = TIMEOUT_S,
    ignoring: tuple[type[Exception], ...] = (),
) -> T: ...


async def wait_until_async(
    condition: Callable[[], object],
    *,
    what: str,
    timeout_s: float = TIMEOUT_S,
    ignoring: tuple[type[Exception], ...] = (),
) -> object:
    """Do as `wait_until` does, in a coroutine; the condition may be one, too."""
    patience = _Patience(what, timeout_s)
    while True:
        last: object
        try:
            seen = condition()
            value = await seen if inspect.isawaitable(seen) else seen
        except ignoring as error:
            last = error
        else:
            if value:
                return value
            last = value
        await asyncio.sleep(patience.next_pause_s(last))
