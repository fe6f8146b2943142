"""Runs seeds, one or thousands, and says of a failure how it came about and how to see it again."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from rota.simulator.chaos.options import RunOptions
from rota.simulator.chaos.scenario import RunOutcome, Scenario
from rota.simulator.chaos.steady import RunOfSteadyLoad
from rota.simulator.promises import BrokenPromise, Promise

__all__ = ["Failure", "Soak", "run_options", "run_seed", "soak"]

FAILURES_MAX: Final = 5
"""After so many nobody learns anything from one more."""

SEEDS_A_TASK: Final = 4
"""Of those that a process is given at once."""


@dataclass(frozen=True)
class Failure:
    """A seed that breaks a promise, in words, with the end of its trace."""

    options: RunOptions
    promise: Promise
    text: str


@dataclass
class Soak:
    """What came of many seeds so far."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)


def run_options(options: RunOptions) -> dict[str, int]:
    """Run one scenario; return what happened how often.

    Raises:
        BrokenPromise: Tells the seed, the last lines of the trace and the command.
    """
    scenario = Scenario(options) if options.steady is None else RunOfSteadyLoad(options)
    try:
        outcome = scenario.run()
    except BrokenPromise as error:
        error.add_note("\n".join(scenario.world.last_lines))
        error.add_note(f"seed {options.seed}, at {scenario.world.now:.4f} s; see it all: {options.command()} --trace")
        raise
    return outcome.counts if isinstance(outcome, RunOutcome) else outcome


def run_seed(
    seed: int,
    *,
    standard: bool = False,
    faults: frozenset[str] | None = None,
    favourite: Mapping[str, object] | None = None,
) -> dict[str, int]:
    """Run one scenario, most of whose tasks have the fields of ``favourite``, if given.

    Raises:
        BrokenPromise: See `run_options`.
    """
    return run_options(RunOptions(seed=seed, standard=standard, faults=faults, favourite=favourite))


def soak(options: RunOptions, *, seeds: int, jobs: int, on_progress: Callable[[Soak], None] = lambda _: None) -> Soak:
    """Run so many seeds from that of ``options`` on, in ``jobs`` processes, until a few have failed.

    ``on_progress`` is called after each.
    """
    so_far = Soak()
    for counts, failure in _results(options, seeds, jobs):
        so_far.seeds += 1
        so_far.counts.update(counts)
        if failure is not None:
            so_far.failures.append(failure)
        on_progress(so_far)
        if len(so_far.failures) >= FAILURES_MAX:
            break
    return so_far


_Result = tuple[dict[str, int], Failure | None]


def _results(options: RunOptions, seeds: int, jobs: int) -> Iterator[_Result]:
    numbers: Iterable[int] = range(options.seed, options.seed + seeds)
    run = partial(_run, options)
    if jobs <= 1:
        yield from map(run, numbers)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run, numbers, chunksize=SEEDS_A_TASK)


def _run(options: RunOptions, seed: int) -> _Result:
    options = replace(options, seed=seed)
    try:
        return run_options(options), None
    except BrokenPromise as error:
        text = "\n".join([*reversed(error.__notes__[:1]), str(error), *error.__notes__[1:]])
        return {}, Failure(options, error.promise, text)
