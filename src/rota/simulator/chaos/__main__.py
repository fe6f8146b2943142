"""Replay runs: ``python -m rota.simulator.chaos --seed 17 --trace``, or many: ``--seeds 1000``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter

from rota.simulator.chaos.scenario import FAULTS, Scenario

__all__ = ["main"]


def main() -> int:
    """Run one seed or many, and say what happened."""
    parser = argparse.ArgumentParser(prog="python -m rota.simulator.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only this kind; may be repeated")
    parser.add_argument("--favourite", type=json.loads, metavar="JSON", help="fields that most tasks have")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    failed = 0
    began = time.perf_counter()
    for seed in range(options.seed, options.seed + options.seeds):
        faults = None if options.fault is None else frozenset(options.fault)
        scenario = Scenario(seed, faults=faults, favourite=options.favourite, on_line=_say if options.trace else None)
        try:
            outcome = scenario.run()
        except AssertionError as error:
            failed += 1
            sys.stderr.write(f"seed {seed}: broken at {scenario.world.now:.4f}: {error}\n")
            if options.seeds == 1:
                raise
        else:
            counts.update(outcome.counts)
            if options.seeds == 1:
                _say(f"seed {seed}: ended at {outcome.ended_s:.1f} s, trace {outcome.trace_hash}")
    _say(f"{options.seeds} seeds in {time.perf_counter() - began:.1f} s, {failed} broken")
    for what, count in sorted(counts.items()):
        _say(f"  {what}: {count}")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
