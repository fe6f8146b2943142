"""The checks can fail: each deliberate mistake is seen within a few seeds, and by the promise that the docs name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from rota.simulator.chaos.options import RunOptions
from rota.simulator.chaos.scenario import Scenario
from rota.simulator.chaos.shrink import broken_by, shrink
from rota.simulator.chaos.soak import run_options
from rota.simulator.promises import BrokenPromise, Promise
from tests.simulation.mutants import MUTANTS, Mutant, leave_lines

PAGE: Final = Path(__file__).parents[2] / "docs" / "invariants.md"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_deliberate_mistake_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.make(monkeypatch)
    with pytest.raises(BrokenPromise) as caught:
        run_all(mutant)
    assert caught.value.promise.number == mutant.caught_by


def run_all(mutant: Mutant) -> None:
    for seed in range(mutant.seeds):
        run_options(RunOptions(seed=seed, **mutant.options))


def test_page_names_every_mistake_and_what_catches_it() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \| (I\d+) \| (\d+) \|$", PAGE.read_text(), re.M)
    assert rows == [(mutant.name, mutant.harm, mutant.caught_by, str(mutant.seeds)) for mutant in MUTANTS]


def test_page_names_every_promise() -> None:
    rows = re.findall(r"^\| (I\d+) \| ([^|]+) \|", PAGE.read_text(), re.M)
    assert rows == [(promise.number, promise.sentence) for promise in Promise]


def test_failing_run_is_made_small_and_still_breaks_the_same_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_lines(monkeypatch)
    options = next(options for seed in range(20) if broken_by(options := RunOptions(seed=seed)) is Promise.LINES)
    small, tried = shrink(options, Promise.LINES, tries=60)
    assert tried <= 60
    assert broken_by(small) is Promise.LINES
    assert size_of(small) < size_of(options) / 3
    assert f"--seed {options.seed} " in small.command()


def size_of(options: RunOptions) -> int:
    scenario = Scenario(options)
    return len(scenario.events) + sum(len(batch.ids) for batch in scenario.batches)
