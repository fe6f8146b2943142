"""Replay runs: ``python -m rota.simulator.chaos --seed 17 --trace``, or soak: ``--standard --seeds 20000``."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from typing import Final

from rota.core.errors import BadRequest
from rota.core.requests import parse_requests
from rota.simulator.chaos.faults import FAULTS
from rota.simulator.chaos.options import RunOptions, numbers_of
from rota.simulator.chaos.scenario import Scenario
from rota.simulator.chaos.shrink import TRIES_MAX, shrink
from rota.simulator.chaos.soak import Failure, Soak, soak
from rota.simulator.chaos.steady import STEADY, RunOfSteadyLoad
from rota.simulator.promises import BrokenPromise

__all__ = ["main"]

PROGRESS_S: Final = 5.0

SECONDS_MAX: Final = 86_400.0


def main() -> int:
    """Run one seed or many, and say what happened; 1 if a promise was broken."""
    chosen = _parser().parse_args()
    options = RunOptions(
        seed=chosen.seed,
        standard=chosen.standard,
        faults=frozenset() if chosen.no_faults else chosen.fault and frozenset(chosen.fault),
        without=frozenset(chosen.without_fault),
        events=chosen.events,
        batches=chosen.batches,
        tasks=chosen.tasks,
        workers=chosen.workers,
        seconds=chosen.seconds,
        favourite=chosen.favourite,
        steady=chosen.steady,
    )
    if chosen.seeds == 1 and not chosen.shrink:
        return _run_one(options, is_traced=chosen.trace)
    return _run_many(options, seeds=chosen.seeds, jobs=chosen.jobs, tries=chosen.tries)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rota.simulator.chaos", description=__doc__)
    say = parser.add_argument
    say("--seed", type=int, default=0, help="the first seed")
    say("--seeds", type=_count, default=1, help="how many seeds")
    say("--standard", action="store_true", help="50 workers and 500 tasks, in place of a few of each")
    say("--trace", action="store_true", help="print all that happens (one seed)")
    say("--fault", action="append", choices=FAULTS, metavar="KIND", help="only this kind; may be repeated")
    say("--no-faults", action="store_true", help="none at all")
    say("--without-fault", action="append", default=[], choices=FAULTS, metavar="KIND", help="not this kind")
    say("--events", type=_numbers, metavar="1-3,7", help="of the faults only those with these numbers")
    say("--batches", type=_numbers, metavar="1-3,7", help="of what is submitted only these batches")
    say("--tasks", type=_count, help="at most so many tasks")
    say("--workers", type=_count, help="so many workers")
    say("--seconds", type=_seconds, help="how long faults go on")
    say("--favourite", type=_task_fields, metavar="JSON", help="fields that most tasks have")
    say("--steady", choices=STEADY, help="a steady load in place of all that")
    say("--jobs", type=_count, default=os.cpu_count() or 1, help="processes, where there are many seeds")
    say("--shrink", action="store_true", help="make the run small if it fails; many seeds do that anyway")
    say("--tries", type=_count, default=TRIES_MAX, help="how many runs making one small may take")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, from 0 to {SECONDS_MAX:g}")
    return seconds


def _numbers(text: str) -> frozenset[int]:
    try:
        return numbers_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1-3,7 or none") from None


def _task_fields(text: str) -> dict[str, object]:
    try:
        fields: dict[str, object] = json.loads(text)
        parse_requests(json.dumps({"command": ["work"], **fields}).encode(), tasks_max=1)
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object: {error}") from None
    except BadRequest as error:
        raise argparse.ArgumentTypeError(f"{error}") from None
    return fields


def _run_one(options: RunOptions, *, is_traced: bool) -> int:
    on_line = _say if is_traced else None
    steady = options.steady is not None
    scenario = RunOfSteadyLoad(options, on_line=on_line) if steady else Scenario(options, on_line=on_line)
    try:
        scenario.run()
    except BrokenPromise as error:
        if not is_traced:
            _say("\n".join(scenario.world.last_lines))
        _say(f"seed {options.seed}: broken at {scenario.world.now:.4f} s: {error}")
        return 1
    _say(f"seed {options.seed}: ended at {scenario.world.now:.1f} s, trace {scenario.world.trace_hash()}")
    return 0


def _run_many(options: RunOptions, *, seeds: int, jobs: int, tries: int) -> int:
    began, said_at, told = time.perf_counter(), time.perf_counter(), 0

    def on_progress(so_far: Soak) -> None:
        nonlocal said_at, told
        for failure in so_far.failures[told:]:  # at once: the whole run may take hours
            _say(f"seed {failure.options.seed} breaks {failure.promise.number}: {failure.options.command()} --trace")
        told = len(so_far.failures)
        now = time.perf_counter()
        if now - said_at >= PROGRESS_S:
            said_at = now
            _say(_rate(so_far, now - began))

    done = soak(options, seeds=seeds, jobs=min(jobs, seeds), on_progress=on_progress)
    _say(_rate(done, time.perf_counter() - began))
    for what, count in sorted(done.counts.items()):
        _say(f"  {what}: {count:,}")
    for failure in done.failures:
        _explain(failure, tries=tries)
    return 1 if done.failures else 0


def _explain(failure: Failure, *, tries: int) -> None:
    _say(f"\n{failure.text}")
    if failure.options.steady is not None:
        return
    small, tried = shrink(failure.options, failure.promise, tries=tries)
    _say(f"the least that still breaks {failure.promise.number}, after {tried} runs: {small.command()} --trace")


def _rate(so_far: Soak, seconds: float) -> str:
    return f"{so_far.seeds:,} seeds, {so_far.seeds / seconds:.2f} a second, {len(so_far.failures)} broken"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
