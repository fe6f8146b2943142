"""Runs a seed, and says of a failure how it came about and how to see it again."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rota.simulator.chaos.scenario import RunOutcome, Scenario

__all__ = ["run_seed"]


def run_seed(
    seed: int, *, faults: frozenset[str] | None = None, favourite: Mapping[str, object] | None = None
) -> RunOutcome:
    """Run one scenario, most of whose tasks have the fields of ``favourite``, if given.

    Raises:
        AssertionError: A promise was broken; tells the seed, the last lines of the trace and the command.
    """
    scenario = Scenario(seed, faults=faults, favourite=favourite)
    try:
        return scenario.run()
    except AssertionError as error:
        chosen = "" if faults is None else "".join(f' --fault "{fault}"' for fault in sorted(faults))
        chosen += "" if favourite is None else f" --favourite '{json.dumps(favourite)}'"
        lines = "\n".join(scenario.world.last_lines)
        raise AssertionError(
            f"seed {seed}, at {scenario.world.now:.4f} s: {error}\n{lines}\n"
            f"see it all: python -m rota.simulator.chaos --seed {seed} --trace{chosen}"
        ) from error
