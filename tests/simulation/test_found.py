"""Runs that once broke a promise, and what each of them showed.

A run changes with whatever draws by lot, so each has a unit test beside it that shows the same for good.
"""

from __future__ import annotations

import pytest

from rota.simulator.chaos.soak import run_seed


@pytest.mark.parametrize("seed", [95, 207, 211])
def test_returning_worker_has_no_more_lanes_than_room(seed: int) -> None:
    """A worker that was given up came back and was assigned new work while the old still died: too much for it.

    Beside it: ``test_new_work_waits_until_what_a_welcome_stops_is_gone``.
    """
    run_seed(seed)


@pytest.mark.parametrize("seed", [20_001, 20_088])
def test_worker_is_kept_for_who_goes_first_now_not_for_who_did_when_that_began(seed: int) -> None:
    """In fair order ranks move with the shares of queues, and holds went by the rank that their holder once had.

    Beside it: ``test_large_task_is_placed_though_small_ones_of_lower_priority_keep_coming``.
    """
    run_seed(seed)


@pytest.mark.parametrize("seed", [66, 3617])
def test_later_one_of_a_kind_is_not_let_in_by_a_hold_whose_task_is_placed(seed: int) -> None:
    """A worker was kept for a task that went elsewhere in the same pass; until its end only its own group was let in.

    Beside it: ``test_a_hold_whose_task_is_placed_elsewhere_keeps_nobody_out_for_a_later_one_of_its_kind``.
    """
    run_seed(seed, standard=True)


def test_what_reaches_a_worker_after_it_was_forgotten_is_run_in_vain() -> None:
    """An assignment of the leader before was on its way when an operator had its worker forgotten by the next one."""
    run_seed(8421, standard=True)


def test_who_is_kept_out_by_a_hold_that_ends_in_the_same_turn_may_be_passed_over() -> None:
    """A worker was kept after a preemption, for a queue that reached its cap in the pass that looked at all."""
    run_seed(10368, standard=True)
