"""Exclusive tasks under partitions, crashes and stalls: never two attempts of one at the same time.

The checker sees what really runs (`Checker.attempt_started`). That it would notice is shown in ``mutants.py``.
"""

from __future__ import annotations

from typing import Final

import pytest

from rota.simulator.chaos.soak import run_seed

SEEDS: Final = 30
CHUNK: Final = 15
EXCLUSIVE: Final = {"exclusive": True, "name": "long"}
ENDLESS: Final = {"exclusive": True, "name": "endless", "deadline": 30, "resources": {"cpu": 20}, "tags": []}
"""Runs for as long as it may, and finds room anywhere: a worker out of reach still runs it when another could."""

PARTITIONS: Final = frozenset(
    {"cut off for long", "cut off", "dead link", "deaf link", "stall worker", "kill coordinator"}
)
"""What makes a worker believe that it still has what was given up."""


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_exclusive_task_never_runs_twice_at_once_whatever_fails(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run_seed(seed, favourite=EXCLUSIVE)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_exclusive_task_never_runs_twice_at_once_in_partitions(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run_seed(seed, faults=PARTITIONS, favourite=ENDLESS)
