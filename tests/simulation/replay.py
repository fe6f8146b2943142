"""Runs a seed, and says of a failure how it came about and how to see it again."""

from __future__ import annotations

from tests.simulation.scenario import Outcome, Scenario

__all__ = ["run_seed"]


def run_seed(seed: int, *, faults: frozenset[str] | None = None) -> Outcome:
    """Run one scenario.

    Raises:
        AssertionError: A promise was broken; tells the seed, the last lines of the trace and the command.
    """
    scenario = Scenario(seed, faults=faults)
    try:
        return scenario.run()
    except AssertionError as error:
        chosen = "" if faults is None else "".join(f' --fault "{fault}"' for fault in sorted(faults))
        lines = "\n".join(scenario.world.last_lines)
        raise AssertionError(
            f"seed {seed}, at {scenario.world.now:.4f} s: {error}\n{lines}\n"
            f"see it all: python -m tests.simulation --seed {seed} --trace{chosen}"
        ) from error
