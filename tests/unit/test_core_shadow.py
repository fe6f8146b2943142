"""A second policy beside the first: it decides nothing, and knows where it would have differed."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from rota.core.model import TaskSeq
from rota.core.placement.policies import POLICIES
from rota.core.shadow import PlacedElsewhere, Shadow, ShadowReport
from tests.support.core import QUIET, Core, assignments


def core_with(shadow: str, **config: Any) -> Core:
    return Core(config=replace(QUIET, shadow=shadow, **config))


def shadow_of(core: Core) -> Shadow:
    shadow = core.scheduler.shadow
    assert shadow is not None
    return shadow


def report(core: Core) -> ShadowReport:
    return shadow_of(core).report(core.now)


def run_history(core: Core, seed: int) -> list[Any]:
    """Tasks come and go, workers too; return what was told to workers."""
    rng = random.Random(seed)
    told: list[Any] = []
    for number in range(4):
        core.hello(f"w{number}", cpu=rng.choice([2000, 4000, 8000]))
    for _ in range(60):
        match rng.randrange(5):
            case 0 | 1:
                told += assignments(core.submit_and_see(resources={"cpu": rng.choice([500, 1000, 2000])}))
            case 2 if core.state.tasks:
                running = [seq for seq, task in core.state.tasks.items() if task.run is not None]
                if running:
                    told += assignments(core.end(TaskSeq(rng.choice(running))))
            case 3:
                told += assignments(core.set_drained(f"w{rng.randrange(4)}", drained=rng.random() < 0.5))
            case _:
                told += assignments(core.pass_time(rng.random()))
    return told


def test_policy_differs_where_it_would_have_packed() -> None:
    core = core_with("binpack", placement="spread")
    for name in ("w1", "w2", "w3"):
        core.hello(name, cpu=4000)
    core.submit(3, resources={"cpu": 1000})
    seen = report(core)
    assert (seen.policy, seen.decisions, seen.same, seen.no_room) == ("binpack", 3, 1, 0)
    assert len(seen.examples) == 2
    assert all(each.other is not None and each.worker != each.other for each in seen.examples)


def test_workers_in_use_are_averages_over_time() -> None:
    core = core_with("binpack", placement="spread")
    for name in ("w1", "w2"):
        core.hello(name, cpu=4000)
    seqs = core.submit(2, resources={"cpu": 1000})
    core.pass_time(10.0)
    for seq in seqs:
        core.end(seq)
    core.pass_time(10.0)
    seen = report(core)
    assert seen.workers_in_use == pytest.approx(1.0)
    assert seen.other_workers_in_use == pytest.approx(0.5)


def test_worker_that_came_since_is_chosen_by_the_other_policy_too() -> None:
    core = core_with("least-loaded", placement="least-loaded")
    core.hello("w1", cpu=4000)
    core.submit(resources={"cpu": 1000})
    core.hello("w2", cpu=4000)
    core.submit(resources={"cpu": 1000})
    assert (report(core).decisions, report(core).same) == (2, 2)


def test_task_that_waits_is_noticed_where_the_other_policy_had_kept_room() -> None:
    core = core_with("binpack", placement="spread")
    for name in ("w1", "w2"):
        core.hello(name, cpu=4000)
    core.submit(2, resources={"cpu": 1000})
    core.submit(resources={"cpu": 4000})  # a whole worker: spread has none, binpack has
    core.pass_time(5.0)
    assert report(core).would_start_s == pytest.approx(5.0)


def test_lane_for_which_it_has_no_room_is_counted_and_shown() -> None:
    core = core_with("spread", placement="binpack")
    for name in ("w1", "w2"):
        core.hello(name, cpu=4000)
    core.submit(2, resources={"cpu": 1000})
    large = core.submit(resources={"cpu": 4000})
    seen = report(core)
    assert seen.no_room == 1
    assert seen.examples[-1] == PlacedElsewhere(f"t{large[0]}", seen.examples[-1].worker, None)


def test_a_worker_that_comes_back_smaller_takes_what_was_thought_to_run_there() -> None:
    core = core_with("binpack", placement="spread")
    core.hello("w1", cpu=4000)
    core.hello("w2", cpu=4000)
    core.submit(2, resources={"cpu": 1000})
    packed = report(core).examples[0].other
    assert packed is not None
    core.close(packed)
    core.hello(packed, cpu=1000, instance=f"{packed}/2")
    core.pass_time(1.0)
    [mirror] = [worker for worker in shadow_of(core)._cluster.workers.values() if worker.id == packed]
    assert mirror.ledger.could_ever((("cpu", 1000),), 0, 0)
    assert not mirror.ledger.could_ever((("cpu", 2000),), 0, 0)
    assert len(mirror.lanes) <= 1


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("seed", range(4))
def test_shadow_changes_nothing_and_loses_no_lane(name: str, seed: int) -> None:
    alone, watched = Core(config=replace(QUIET, seed=7)), core_with(name, seed=7)
    assert run_history(alone, seed) == run_history(watched, seed)
    shadow = shadow_of(watched)
    lanes = {lane for worker in watched.state.cluster.workers.values() for lane in worker.lanes.values()}
    assert set(shadow._twins) <= lanes
    seen = report(watched)
    open_twins = sum(len(worker.lanes) for worker in shadow._cluster.workers.values())
    assert open_twins == len(shadow._twins)
    assert len(shadow._other_used) == sum(bool(worker.lanes) for worker in shadow._cluster.workers.values())
    assert len(shadow._used) == sum(bool(worker.lanes) for worker in watched.state.cluster.workers.values())
    assert 0 <= seen.same <= seen.decisions


def test_same_policy_without_chance_always_agrees() -> None:
    core = core_with("first-fit", placement="first-fit")
    run_history(core, 5)
    seen = report(core)
    assert seen.decisions > 10
    assert seen.same == seen.decisions
