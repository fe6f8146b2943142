"""The same seed gives the same run, to the last character: else no failure could be seen again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rota.simulator.chaos.scenario import FAULTS, Scenario

ROOT = Path(__file__).parents[2]

HASHES = "from rota.simulator.chaos.scenario import *; print(*(Scenario(seed).run().trace_hash for seed in range(6)))"


def hashes(hash_seed: str) -> str:
    """The traces of some runs in a process of its own, whose sets and dictionaries hash by this seed."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    result = subprocess.run(
        [sys.executable, "-c", HASHES], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_same_seed_gives_the_same_trace() -> None:
    everything = frozenset(FAULTS)
    assert Scenario(1, faults=everything).run() == Scenario(1, faults=everything).run()


def test_other_seed_gives_another_trace() -> None:
    assert Scenario(1).run().trace_hash != Scenario(2).run().trace_hash


def test_trace_does_not_depend_on_the_hash_seed() -> None:
    assert hashes("1") == hashes("2")
