"""When a runner counts as stuck."""

from __future__ import annotations

from itertools import count

from rota.worker.slots.functions.standstill import LOOK_S_MAX, PATIENCE_S, Standstill

STEP_S = 0.02
LOOKS = round(PATIENCE_S / STEP_S)


def test_a_runner_that_starts_nothing_for_long_is_stuck() -> None:
    standstill = Standstill()
    looks = next(look for look in count() if standstill.is_stuck(7, look * STEP_S))
    assert abs(looks - LOOKS) <= 1


def test_a_runner_that_gets_on_is_never_stuck() -> None:
    standstill = Standstill()
    assert not any(standstill.is_stuck(look // (LOOKS // 2), look * STEP_S) for look in range(5 * LOOKS))


def test_a_machine_that_slept_is_no_standstill() -> None:
    standstill = Standstill()
    assert not any(standstill.is_stuck(7, look * 3600.0) for look in range(round(PATIENCE_S / LOOK_S_MAX)))
