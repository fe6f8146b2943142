"""Run times: what is learned of a class from what its attempts took."""

from __future__ import annotations

import pytest

from rota.core.estimates import RunTimes


@pytest.mark.parametrize("first_s", [0.0, 1e-6, 0.01, 50.0])
def test_estimate_comes_to_what_attempts_take_whatever_the_first_took(first_s: float) -> None:
    times = RunTimes()
    times.learn("a", first_s)
    for _ in range(100):
        times.learn("a", 1.0)
    assert times.estimate_s("a") == pytest.approx(1.0, rel=0.01)
