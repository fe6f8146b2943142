"""Placement and tags over many generated cases, against slow and simple ways of saying the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.placement.consistent_hash import SHARE_LEAST
from rota.core.placement.policies import POLICIES
from tests.support.core import QUIET, Core, only

# Consistent hashing


def homes(core: Core, keys: list[str]) -> dict[str, str]:
    found = {}
    for key in keys:
        seq = only(core.submit(affinity=key))
        found[key] = core.worker_of(seq)
        core.end(seq)
    return found


@settings(max_examples=10, deadline=None)
@given(workers=st.integers(2, 30), seed=st.integers(0, 1_000_000))
def test_worker_that_comes_takes_over_its_share_of_the_keys_and_moves_no_others(workers: int, seed: int) -> None:
    core = Core(config=replace(QUIET, placement="consistent-hash"))
    for number in range(workers):
        core.hello(f"s{seed}-w{number}")
    keys = [f"{seed}/{number}" for number in range(200)]
    before = homes(core, keys)
    core.hello(f"s{seed}-new")
    after = homes(core, keys)
    moved = [key for key in keys if before[key] != after[key]]
    assert all(after[key] == f"s{seed}-new" for key in moved)
    # 32 points give a share within some 18 % of the mean, 200 keys a sample of it: five times that is out of question.
    expected = len(keys) / (workers + 1)
    assert len(moved) <= 2.0 * expected + 15
    assert len(moved) >= 0.3 * expected - 8


@settings(max_examples=20, deadline=None)
@given(workers=st.integers(1, 20), tasks=st.integers(1, 300), keys=st.integers(1, 3))
def test_no_worker_gets_more_than_its_bounded_share_however_hot_a_key_is(workers: int, tasks: int, keys: int) -> None:
    core = Core(config=replace(QUIET, placement="consistent-hash"))
    for number in range(workers):
        core.hello(f"w{number}", cpu=10_000_000)
    seqs = [seq for key in range(keys) for seq in core.submit(-(-tasks // keys), affinity=f"k{key}")]
    counts = Counter(core.workers_of(seqs))
    assert max(counts.values()) <= max(SHARE_LEAST, 1.25 * len(seqs) / workers + 1)


# All policies: a history, and nobody is forgotten or overfilled (the state checks itself after each step)


@pytest.mark.parametrize("name", list(POLICIES))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_history_leaves_nothing_waiting_that_has_room(name: str, data: st.DataObject) -> None:
    core = Core(config=replace(QUIET, placement=name, seed=data.draw(st.integers(0, 9))))
    known = 0
    for _ in range(data.draw(st.integers(1, 25))):
        running = sorted(seq for seq, task in core.state.tasks.items() if task.run is not None)
        match data.draw(st.sampled_from(["hello", "submit", "submit", "end", "drain", "close"])):
            case "hello":
                zone = data.draw(st.sampled_from(["a", "b"]))
                core.hello(f"w{known}", cpu=1000 * data.draw(st.integers(1, 4)), tags=[f"zone={zone}"], gpus=[4000])
                known += 1
            case "submit":
                need = {"cpu": data.draw(st.sampled_from([0, 500, 1000, 3000]))}
                if data.draw(st.booleans()):
                    need["gpu_memory"] = 1500
                tags = data.draw(st.sampled_from([[], ["zone=a~"], ["!zone=b"]]))
                policy = data.draw(st.sampled_from([None, *POLICIES]))
                fields = {"placement": policy} if policy else {}
                core.submit(data.draw(st.integers(1, 5)), resources=need, tags=tags, **fields)
            case "end" if running:
                core.end(data.draw(st.sampled_from(running)), run_s=data.draw(st.sampled_from([0.001, 9.0])))
            case "drain" if known:
                worker = f"w{data.draw(st.integers(0, known - 1))}"
                core.set_drained(worker, drained=data.draw(st.booleans()))
            case "close" if core.sessions:
                core.close(data.draw(st.sampled_from(sorted(core.sessions))))


@settings(max_examples=30, deadline=None)
@given(shares=st.lists(st.integers(1, 6), min_size=1, max_size=5), tasks=st.integers(1, 40))
def test_spread_leaves_zones_within_one_of_each_other(shares: list[int], tasks: int) -> None:
    core = Core(config=replace(QUIET, placement="spread"))
    for zone, workers in enumerate(shares):
        for number in range(workers):
            core.hello(f"z{zone}w{number}", tags=[f"zone={zone}"], cpu=1_000_000)
    counts = Counter(worker.split("w")[0] for worker in core.workers_of(core.submit(tasks, name="job")))
    each = [counts[f"z{zone}"] for zone in range(len(shares))]
    assert max(each) - min(each) <= 1
