"""The same seed gives the same run, to the last character: else no failure could be seen again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rota.simulator.chaos.faults import FAULTS
from rota.simulator.chaos.options import RunOptions
from rota.simulator.chaos.scenario import Scenario

ROOT = Path(__file__).parents[2]

HASHES = """
from rota.simulator.chaos.options import RunOptions
from rota.simulator.chaos.options import RunOptions
from rota.simulator.chaos.scenario import Scenario
runs = [RunOptions(seed=seed) for seed in range(6)] + [RunOptions(seed=seed, standard=True) for seed in range(2)]
print(*(Scenario(options).run().trace_hash for options in runs))
"""


def hashes(hash_seed: str) -> str:
    """The traces of some runs in a process of its own, whose sets and dictionaries hash by this seed."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    result = subprocess.run(
        [sys.executable, "-c", HASHES], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout


@pytest.mark.parametrize("standard", [False, True])
def test_same_seed_gives_the_same_trace(*, standard: bool) -> None:
    options = RunOptions(seed=1, standard=standard, faults=frozenset(FAULTS) - {"lost suffix"})
    assert Scenario(options).run() == Scenario(options).run()


def test_other_seed_gives_another_trace() -> None:
    assert Scenario(RunOptions(seed=1)).run().trace_hash != Scenario(RunOptions(seed=2)).run().trace_hash


def test_trace_does_not_depend_on_the_hash_seed() -> None:
    assert hashes("1") == hashes("2")
