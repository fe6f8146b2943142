"""Dividing a machine among its workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rota.cli.shares import CORE, divided

amounts = st.dictionaries(st.sampled_from(["cpu", "memory", "disk"]), st.integers(0, 10**6), max_size=3)


@given(amounts, st.integers(1, 50))
def test_shares_add_up_and_differ_by_no_more_than_a_core(resources: dict[str, int], workers: int) -> None:
    shares = divided(resources, workers)
    assert len(shares) == workers
    for name, amount in resources.items():
        parts = [share[name] for share in shares]
        assert sum(parts) == amount
        assert parts == sorted(parts, reverse=True)
        assert max(parts) - min(parts) <= (2 * CORE if name == "cpu" else 1)


@given(st.integers(1, 64), st.integers(1, 64))
def test_whole_cores_stay_whole_while_there_are_enough(cores: int, workers: int) -> None:
    shares = divided({"cpu": cores * CORE}, workers)
    if cores >= workers:
        assert all(share["cpu"] % CORE == 0 for share in shares)
