"""Makes a failing run small: whatever can be left out of it while the same promise still breaks is left out.

Kinds of fault go first, then single faults, batches of tasks, tasks, workers, and time. A run without something draws
everything else as before, but what follows from that may be quite another story; so each step is tried, and kept
only if it breaks the same promise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from rota.simulator.chaos.options import RunOptions
from rota.simulator.chaos.scenario import Scenario
from rota.simulator.promises import BrokenPromise, Promise

__all__ = ["TRIES_MAX", "broken_by", "shrink"]

T = TypeVar("T")

TRIES_MAX: Final = 150
"""Runs that one failure is worth: a minute or two of the standard scenario, and most need far fewer."""

SECONDS_MIN: Final = 1.0


def broken_by(options: RunOptions) -> Promise | None:
    """The promise that a run breaks, if any."""
    try:
        Scenario(options).run()
    except BrokenPromise as error:
        return error.promise
    return None


def shrink(options: RunOptions, promise: Promise, *, tries: int = TRIES_MAX) -> tuple[RunOptions, int]:
    """Find a smaller run that breaks the same promise.

    Returns:
        Its options, and how many runs were tried, at most ``tries``.
    """
    shrinker = _Shrinker(options, promise, tries)
    for step in (shrinker.kinds, shrinker.events, shrinker.batches, shrinker.tasks, shrinker.workers, shrinker.seconds):
        step()
    return shrinker.best, shrinker.tried


class _Shrinker:
    """``best`` is the smallest run so far."""

    def __init__(self, options: RunOptions, promise: Promise, tries: int) -> None:
        self.best = options
        self.tried = 0
        self._promise = promise
        self._tries = tries

    def kinds(self) -> None:
        """Leave kinds of fault out."""
        kinds = sorted({event.kind for event in Scenario(self.best).events})
        before = self.best.without
        self._leave_out(kinds, lambda kept: replace(self.best, without=before | (set(kinds) - set(kept))))

    def events(self) -> None:
        """Leave single faults out. Kinds then need not be named any more."""
        numbers = [event.number for event in Scenario(self.best).events]
        self._leave_out(numbers, lambda kept: replace(self.best, events=frozenset(kept), without=frozenset()))

    def batches(self) -> None:
        """Leave batches of tasks out."""
        numbers = [batch.number for batch in Scenario(self.best).batches]
        self._leave_out(numbers, lambda kept: replace(self.best, batches=frozenset(kept)))

    def tasks(self) -> None:
        """Submit fewer of each."""
        count = sum(len(batch.ids) for batch in Scenario(self.best).batches)
        self._lower(count, lambda fewer: replace(self.best, tasks=fewer))

    def workers(self) -> None:
        """Have fewer workers."""
        self._lower(len(Scenario(self.best).machines), lambda fewer: replace(self.best, workers=fewer))

    def seconds(self) -> None:
        """Let the faults be over sooner."""
        while (shorter := round(Scenario(self.best).faults_s * 0.6, 1)) >= SECONDS_MIN:
            if not self._accepts(replace(self.best, seconds=shorter)):
                return

    def _leave_out(self, things: list[T], make: Callable[[list[T]], RunOptions]) -> None:
        """Try without ever smaller parts of some things."""
        size = max(1, len(things) // 2)
        while things and self.tried < self._tries:
            start, was_any_dropped = 0, False
            while start < len(things):
                kept = things[:start] + things[start + size :]
                if self._accepts(make(kept)):
                    things, was_any_dropped = kept, True
                else:
                    start += size
            if size == 1 and not was_any_dropped:
                return
            size = max(1, size // 2)

    def _lower(self, count: int, make: Callable[[int], RunOptions]) -> None:
        """Try with fewer: halves first, then one by one."""
        step = count // 2
        while step and self.tried < self._tries:
            if count > step and self._accepts(make(count - step)):
                count -= step
            else:
                step //= 2

    def _accepts(self, options: RunOptions) -> bool:
        if self.tried >= self._tries:
            return False
        self.tried += 1
        if broken_by(options) is not self._promise:
            return False
        self.best = options
        return True
