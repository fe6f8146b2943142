"""Calendars in whole runs: coordinators die and their clocks jump, and no fire time makes two tasks."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import partial

import pytest

from rota.core.calendars import MISFIRES, Calendar
from rota.core.commands import PauseCalendar, SetCalendar
from rota.core.spec import TaskRequest
from rota.simulator.chaos import scenario
from rota.simulator.chaos.faults import COORDINATOR_FAULTS
from rota.simulator.chaos.operators import Operators
from rota.simulator.chaos.options import RunOptions
from rota.simulator.chaos.scenario import Scenario
from rota.simulator.record import Record

SEEDS = 12
FAULTS = frozenset({"jump of the wall clock", "usurped", "kill worker", *COORDINATOR_FAULTS})
FAULTS_S = 500.0
"""Time for some minutes to begin, besides those that jumps bring."""


class Timekeepers(Operators):
    """Operators who have calendars, too, of each kind, and pause and change them as they meddle."""

    def begin(self) -> None:
        super().begin()
        self._lots = random.Random("timekeepers")
        for misfire in MISFIRES:
            self._set(misfire, "* * * * *")

    def meddle(self) -> None:
        super().meddle()
        name = self._lots.choice(MISFIRES)
        if self._lots.random() < 0.5:
            self._ask(partial(PauseCalendar, name, self._lots.random() < 0.3))
        else:
            self._set(name, self._lots.choice(("* * * * *", "*/2 * * * *")))

    def restore_order(self) -> None:
        super().restore_order()
        for name in MISFIRES:
            self._ask(partial(PauseCalendar, name, True), must_be=True)

    def _set(self, name: str, expression: str) -> None:
        calendar = Calendar(
            expression=expression,
            zone="Europe/Berlin",
            task=TaskRequest(command=["true"], name="quick"),
            misfire=next(misfire for misfire in MISFIRES if misfire == name),
            overlap="skip" if name == "once" else "allow",
            created_at=self._world.wall,
        )
        self._ask(partial(SetCalendar, name, calendar, replaces=True), must_be=True)


def fires_of(record: Record) -> Counter[tuple[str, str]]:
    """How many tasks each fire time of each calendar has made."""
    labels = [json.loads(facts.labels or "{}") for facts in record.facts.values()]
    return Counter((found["cron"], found["cron-at"]) for found in labels if "cron-at" in found)


def test_no_fire_time_makes_two_tasks_in_any_disaster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "Operators", Timekeepers)
    fires, jumps = 0, 0
    for seed in range(SEEDS):
        run = Scenario(RunOptions(seed=seed, faults=FAULTS, seconds=FAULTS_S))
        run.run()
        made = fires_of(run.store.record)
        twice = [fire for fire, count in made.items() if count > 1]
        assert not twice, f"seed {seed}: {twice} made two tasks"
        fires += len(made)
        jumps += sum("clock" in event.kind for event in run.events)
    assert fires > 10 * SEEDS, "too few fires to show anything"
    assert jumps > SEEDS, "too few jumps of clocks to show anything"
