"""Hundreds of short runs under chance: whatever fails, nothing that was promised is broken.

A failure names its seed and the command that replays it. Mended ones move to ``test_found.py``.
"""

from __future__ import annotations

from typing import Final

import pytest

from rota.simulator.chaos.faults import COORDINATOR_FAULTS
from rota.simulator.chaos.soak import run_seed

SEEDS: Final = 200
CHUNK: Final = 20
"""Seeds of one test: about a second."""

CRASH_SEEDS: Final = 60


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_promises_hold_whatever_fails(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run_seed(seed)


@pytest.mark.parametrize("first", range(0, CRASH_SEEDS, CHUNK))
def test_coordinator_crash_alone_disturbs_no_worker(first: int) -> None:
    """No worker is given up, so nothing that one was running or had finished is run again."""
    for seed in range(first, first + CHUNK):
        counts = run_seed(seed, faults=frozenset(COORDINATOR_FAULTS))
        assert "attempts worker-lost" not in counts
