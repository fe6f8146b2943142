"""Runs that once broke a promise, and what each of them showed."""

from __future__ import annotations

from tests.simulation.replay import run_seed


def test_returning_worker_has_no_more_lanes_than_room() -> None:
    """A worker that was given up came back and was assigned new work while the old still died: too much for it."""
    run_seed(734)
