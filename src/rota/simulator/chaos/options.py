"""What a run is: a seed, and what is left out of what it would draw. All of it can be said on a command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["RunOptions", "numbers_of", "ranges_of"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """One run.

    Attributes:
        seed: Of everything that is drawn.
        standard: The standard fault scenario, 50 workers and 500 tasks, in place of the small one.
        faults: The kinds of fault that are on; drawn if not given.
        without: Kinds that are off, drawn or not.
        events: Of the faults those with these numbers alone; all if not given.
        batches: Of what is submitted likewise.
        tasks: How many tasks are submitted at most.
        workers: How many workers there are; drawn if not given.
        seconds: How long faults go on; drawn if not given.
        favourite: Fields that most tasks have.
        steady: A run under steady load, by its name, in place of all of these.
    """

    seed: int
    standard: bool = False
    faults: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    events: frozenset[int] | None = None
    batches: frozenset[int] | None = None
    tasks: int | None = None
    workers: int | None = None
    seconds: float | None = None
    favourite: Mapping[str, object] | None = None
    steady: str | None = None

    def command(self) -> str:
        """What to type to see this run again."""
        words = ["python -m rota.simulator.chaos", f"--seed {self.seed}"]
        words += [f"--steady {self.steady}"] if self.steady is not None else []
        words += ["--standard"] if self.standard else []
        words += [f"--fault {shlex.quote(name)}" for name in sorted(self.faults or ())]
        words += ["--no-faults"] if self.faults == frozenset() else []
        words += [f"--without-fault {shlex.quote(name)}" for name in sorted(self.without)]
        words += [f"--events {ranges_of(self.events)}"] if self.events is not None else []
        words += [f"--batches {ranges_of(self.batches)}"] if self.batches is not None else []
        words += [f"--tasks {self.tasks}"] if self.tasks is not None else []
        words += [f"--workers {self.workers}"] if self.workers is not None else []
        words += [f"--seconds {self.seconds:g}"] if self.seconds is not None else []
        words += [f"--favourite {shlex.quote(json.dumps(self.favourite))}"] if self.favourite is not None else []
        return " ".join(words)


def ranges_of(numbers: Iterable[int]) -> str:
    """Write numbers as ranges.

    >>> ranges_of({4, 1, 2, 3, 9})
    '1-4,9'
    >>> ranges_of(())
    'none'
    """
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans) or "none"


def numbers_of(text: str) -> frozenset[int]:
    """Read what `ranges_of` writes.

    >>> sorted(numbers_of("1-4,9"))
    [1, 2, 3, 4, 9]

    Raises:
        ValueError: It is nothing of the kind.
    """
    numbers: set[int] = set()
    for span in text.split(",") if text != "none" else ():
        low, _, high = span.partition("-")
        numbers.update(range(int(low), int(high or low) + 1))
    return frozenset(numbers)
