"""Gangs drawn by seed among everything else: placed whole, and all of it ends, whatever fails."""

from __future__ import annotations

from collections import Counter

import pytest

from rota.simulator.chaos.soak import run_seed


@pytest.mark.parametrize("first", range(1000, 1060, 20))
def test_gangs_are_placed_whole_and_end_whatever_fails(first: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + 20):
        counts.update(run_seed(seed, favourite={"gang": True, "retries": 2, "backoff": 0.1}))
    assert counts["gangs placed"] > 50
    assert counts["attempts gang"] > 20
