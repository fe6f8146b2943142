"""The standard fault scenario, 50 workers and 500 tasks, and steady loads: a few seeds of what `make soak` does."""

from __future__ import annotations

from collections import Counter

import pytest

from rota.core.errors import LostLeadership
from rota.simulator.chaos.__main__ import main
from rota.simulator.chaos.faults import FAULTS
from rota.simulator.chaos.options import RunOptions, numbers_of, ranges_of
from rota.simulator.chaos.scenario import Scenario
from rota.simulator.chaos.soak import run_options, run_seed, soak
from rota.simulator.chaos.steady import STEADY


@pytest.mark.parametrize("first", range(0, 20, 4))
def test_promises_hold_in_the_standard_scenario(first: int) -> None:
    for seed in range(first, first + 4):
        run_seed(seed, standard=True)


def test_standard_scenario_is_as_large_as_it_says() -> None:
    scenario = Scenario(RunOptions(seed=5, standard=True))
    assert len(scenario.machines) == 50
    assert 500 <= sum(len(batch.ids) for batch in scenario.batches) < 505  # a gang stays whole


@pytest.mark.parametrize("kind", FAULTS)
def test_each_kind_of_fault_happens_and_breaks_nothing(kind: str) -> None:
    counts: Counter[str] = Counter()
    for seed in range(3):
        counts.update(run_seed(seed, faults=frozenset({kind})))
    assert counts[f"fault: {kind}"] >= 3


def test_leader_goes_when_the_store_has_lost_what_was_on_it() -> None:
    counts: Counter[str] = Counter()
    for seed in range(8):
        counts.update(run_seed(seed, faults=frozenset({"lost suffix"})))
    assert counts[f"leaders gone: {LostLeadership.code}"] >= 3


def test_leader_goes_when_somebody_else_leads_and_nothing_is_lost() -> None:
    counts = run_seed(3, faults=frozenset({"usurped"}))
    assert counts[f"leaders gone: {LostLeadership.code}"] > 0


@pytest.mark.parametrize("steady", STEADY)
def test_promises_that_take_time_hold_under_a_steady_load(steady: str) -> None:
    for seed in range(2):
        run_options(RunOptions(seed=seed, steady=steady))


def test_run_without_something_has_all_else_where_it_was() -> None:
    whole = Scenario(RunOptions(seed=7))
    kinds = sorted({event.kind for event in whole.events})
    less = Scenario(RunOptions(seed=7, without=frozenset(kinds[:1]), batches=frozenset({0, 2})))
    assert less.events == [event for event in whole.events if event.kind != kinds[0]]
    assert less.batches == [whole.batches[0], whole.batches[2]]


def test_soak_goes_through_all_seeds_and_counts_what_happened() -> None:
    done = soak(RunOptions(seed=10), seeds=6, jobs=2)
    assert (done.seeds, done.failures) == (6, [])
    assert done.counts["attempts run"] > 10


def test_command_says_everything_that_a_run_is_made_of() -> None:
    options = RunOptions(
        seed=3,
        standard=True,
        faults=frozenset({"cut link", "drain"}),
        without=frozenset({"leave"}),
        events=frozenset({1, 2, 3, 7}),
        batches=frozenset(),
        tasks=9,
        workers=2,
        seconds=1.5,
        favourite={"exclusive": True},
    )
    assert options.command() == (
        "python -m rota.simulator.chaos --seed 3 --standard --fault 'cut link' --fault drain --without-fault leave"
        " --events 1-3,7 --batches none --tasks 9 --workers 2 --seconds 1.5 --favourite '{\"exclusive\": true}'"
    )
    assert numbers_of(ranges_of({1, 2, 3, 7})) == {1, 2, 3, 7}


@pytest.mark.parametrize(
    "arguments,says",
    [
        (["--seeds", "0"], "--seeds: '0' is no whole number from 1 on"),
        (["--workers", "-1"], "--workers: '-1' is no whole number"),
        (["--seconds", "nan"], "--seconds: 'nan' is no number of seconds"),
        (["--events", "x"], "--events: 'x' is not of the form 1-3,7"),
        (["--favourite", "[1]"], "--favourite: '[1]' is no JSON object"),
        (["--favourite", '{"deadlin": 1}'], "there is no such field; did you mean `deadline`"),
        (["--fault", "earthquake"], "--fault: invalid choice: 'earthquake'"),
    ],
)
def test_mistake_on_the_command_line_is_told(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["chaos", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert says in capsys.readouterr().err
