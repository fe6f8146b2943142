"""Pictures of runs: what is drawn is what was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rota.core.model import TaskState
from rota.simulator.columns import Columns
from rota.simulator.fairness import Fairness
from rota.simulator.plots import PlottedRun, RunArrays, draw_runs


def run_of(*attempts: tuple[int, float, float, int], millicores: list[int]) -> PlottedRun:
    """A run of attempts: at which worker, from when to when, and on how much of it."""
    columns = Columns([f"w{number}" for number in range(len(millicores))], Fairness({}))
    for row, (worker, began, over, cpu) in enumerate(attempts):
        columns.add_task(0.0, 0)
        columns.started[row], columns.ended[row], columns.state[row] = began, over, TaskState.COMPLETED
        columns.add_attempt(row, worker, began, over, cpu)
    return PlottedRun("binpack", columns, millicores)


def test_map_shows_of_each_worker_which_part_of_its_own_cores_worked() -> None:
    run = RunArrays(run_of((0, 0.0, 240.0, 2000), (1, 0.0, 120.0, 4000), millicores=[2000, 16_000]))
    small, large = run.use_by_worker(np.linspace(0.0, 240.0, 241))
    assert small == pytest.approx(np.ones(240))
    assert large == pytest.approx(np.repeat([0.25, 0.0], 120))


def test_row_of_several_workers_shows_what_they_used_together() -> None:
    run = RunArrays(run_of((0, 0.0, 240.0, 1000), millicores=[1000, *[500] * 239]))
    first, *rest = run.use_by_worker(np.linspace(0.0, 240.0, 241))
    assert len(rest) == 119
    assert first == pytest.approx(np.full(240, 1000 / 1500))


def test_worker_without_cores_is_drawn_as_idle(tmp_path: Path) -> None:
    draw_runs([run_of((0, 0.0, 10.0, 0), millicores=[0])], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
