"""Placement policies: what all promise, and which worker each chooses."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rota.core.cluster import Room
from rota.core.commands import SessionId
from rota.core.model import Offer, Shape, TaskSeq, WorkerId, WorkerRecord, WorkerState
from rota.core.placement.policies import POLICIES
from rota.core.queues import Queue
from rota.core.workers import Worker
from tests.support.core import QUIET, Core, make_offer, only

ALL = sorted(POLICIES)


def core_with(placement: str, *, seed: int = 0) -> Core:
    return Core(config=replace(QUIET, placement=placement, seed=seed))


def workers_of(core: Core, count: int, **fields: Any) -> list[str]:
    """Where so many like tasks go, one after another."""
    return [core.worker_of(only(core.submit(**fields))) for _ in range(count)]


# What all promise


@pytest.fixture(params=ALL)
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_all_room_is_used_and_no_more(placement: str) -> None:
    core = core_with(placement)
    for number in range(7):
        core.hello(f"w{number}", cpu=1000 * (1 + number % 3))
    seqs = core.submit(20)
    assert core.states(seqs).count("assigned") == sum(1 + number % 3 for number in range(7))
    core.end(seqs[0])
    assert core.states(seqs).count("assigned") == 13


def test_a_policy_of_the_task_goes_before_that_of_the_coordinator(placement: str) -> None:
    core = core_with("first-fit" if placement != "first-fit" else "random")
    core.hello()
    seq = only(core.submit(placement=placement))
    assert core.task(seq).run is not None
    room = core.state.cluster.room_of(core.task(seq).terms)
    assert room.policy.name == placement


def test_a_policy_that_is_gone_is_that_of_the_coordinator() -> None:
    core = core_with("first-fit")
    core.hello()
    seq = only(core.submit(placement="removed-with-its-package"))
    assert core.worker_of(seq) == "w1"


def test_equal_seeds_place_equally(placement: str) -> None:
    def run() -> list[str]:
        core = core_with(placement, seed=7)
        for number in range(9):
            core.hello(f"w{number}", cpu=3000)
        return workers_of(core, 20)

    assert run() == run()


def test_nobody_is_forgotten_when_workers_come_and_go_and_the_coordinator_starts_anew(placement: str) -> None:
    chance = random.Random(placement)
    core = core_with(placement)
    for number in range(5):
        core.hello(f"w{number}", cpu=2000)
    for _ in range(60):
        running = sorted(seq for seq, task in core.state.tasks.items() if task.run is not None)
        match chance.randrange(5):
            case 0 | 1:
                core.submit(chance.randrange(1, 4), affinity=chance.choice("abc"))
            case 2 if running:
                core.end(chance.choice(running))
            case 3:
                core.set_drained(f"w{chance.randrange(5)}", drained=bool(chance.randrange(2)))
            case _:
                core.submit(resources={"cpu": 500})
    restarted = core.restarted()
    for number in range(5):
        held = [restarted.held(task.seq) for task in restarted.state.cluster.workers[WorkerId(f"w{number}")].attempts()]
        restarted.hello(f"w{number}", holds=held, cpu=2000)
        restarted.set_drained(f"w{number}", drained=False)
    running = sorted(seq for seq, task in restarted.state.tasks.items() if task.run is not None)
    while running:
        for seq in running:
            restarted.end(seq)
        running = sorted(seq for seq, task in restarted.state.tasks.items() if task.run is not None)
    assert not restarted.state.tasks


class Asked:
    """Counts how often a policy asks whether a worker has room."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, worker: Worker) -> bool:
        self.count += 1
        return worker.ledger.fits((("cpu", 1),))


def workers(count: int) -> Iterator[Worker]:
    for number in range(count):
        offer: Offer = make_offer(cpu=100)
        yield Worker(WorkerRecord(WorkerId(f"w{number}"), "i", offer, False, 0.0, None), number=number, now=0.0)


def test_the_cost_of_a_choice_does_not_grow_with_the_workers(placement: str) -> None:
    asked = {}
    for count in (20, 2000):
        policy = POLICIES[placement](random.Random(1))
        there = list(workers(count))
        index = policy.make_index(Room(Shape((("cpu", 1),), frozenset()), policy, Queue("default")), there)
        has_room = Asked()
        for number in range(200):
            worker = index.choose(f"t{number}", has_room)
            assert worker is not None
            worker.ledger.reserve((("cpu", 1),))
            policy.opened(worker, f"t{number}")
        asked[count] = has_room.count
    assert asked[2000] <= 2 * asked[20] + 20


@pytest.mark.parametrize("placement", ["least-loaded", "random"])
def test_an_order_forgets_workers_that_left_while_they_had_work(placement: str) -> None:
    order = POLICIES[placement](random.Random(1)).make_order()
    assert order is not None
    room = Room(Shape((("cpu", 1),), frozenset()), POLICIES[placement](random.Random(1)), Queue("default"))
    idle, *passing = workers(5000)
    for worker in (idle, *passing):
        worker.session, worker.state = SessionId(worker.number + 1), WorkerState.ONLINE
    order.offer(idle)
    for worker in passing:
        worker.ledger.reserve((("cpu", 50),))
        order.offer(worker)
        order.look(room.fits_now)
        worker.session = None
        order.look(room.fits_now)
    assert len(order) < 500


# What each chooses


def test_round_robin_takes_turns() -> None:
    core = core_with("round-robin")
    for name in ("w1", "w2", "w3"):
        core.hello(name)
    assert workers_of(core, 7) == ["w1", "w2", "w3", "w1", "w2", "w3", "w1"]


def test_tasks_that_need_nothing_do_not_all_go_to_one_worker() -> None:
    core = core_with("least-loaded")
    for name in ("w1", "w2", "w3"):
        core.hello(name)
    counts = Counter(core.workers_of(core.submit(60, resources={"cpu": 0})))
    assert min(counts.values()) > 8


def test_a_few_tasks_of_one_key_stay_together_in_a_large_cluster() -> None:
    core = core_with("consistent-hash")
    for number in range(20):
        core.hello(f"w{number}", cpu=100_000)
    assert len(set(workers_of(core, 4, affinity="key"))) == 1


def test_first_fit_fills_up_in_the_order_of_registration() -> None:
    core = core_with("first-fit")
    for name in ("w2", "w1", "w3"):
        core.hello(name, cpu=2000)
    assert workers_of(core, 5) == ["w2", "w2", "w1", "w1", "w3"]
    core.end(TaskSeq(1))
    assert workers_of(core, 1) == ["w2"]


def test_random_gives_each_its_part() -> None:
    core = core_with("random")
    for name in ("w1", "w2", "w3", "w4"):
        core.hello(name, cpu=1_000_000)
    counts = Counter(workers_of(core, 400))
    assert len(counts) == 4
    assert min(counts.values()) > 60


def test_least_loaded_takes_any_that_is_within_a_twentieth_of_the_least() -> None:
    firsts = set()
    for seed in range(20):
        core = core_with("least-loaded", seed=seed)
        core.hello("busy", cpu=100_000)
        core.submit(10)
        core.hello("a", cpu=100_000)
        core.hello("b", cpu=100_000)
        firsts.add(workers_of(core, 1)[0])
    assert firsts == {"a", "b"}


def test_binpack_takes_the_fullest_by_cpu_and_memory() -> None:
    core = core_with("binpack")
    core.hello("a", cpu=10_000, memory=10_000)
    core.submit(resources={"cpu": 5000, "memory": 1000})
    core.hello("b", cpu=10_000, memory=10_000)
    core.hello("c", cpu=10_000, memory=10_000)
    assert workers_of(core, 3) == ["a", "a", "a"]


def test_binpack_sees_what_other_shapes_were_given() -> None:
    core = core_with("binpack")
    core.hello("a", cpu=10_000, memory=10_000)
    core.submit(resources={"cpu": 3000})
    core.hello("b", cpu=10_000, memory=10_000)
    core.set_drained("a", drained=True)
    core.submit(resources={"cpu": 2000})
    core.set_drained("a", drained=False)
    assert workers_of(core, 1, resources={"cpu": 500}) == ["a"]
    core.set_drained("a", drained=True)
    core.submit(resources={"cpu": 4000})  # another shape, which makes b the fuller one
    core.set_drained("a", drained=False)
    assert workers_of(core, 1, resources={"cpu": 500}) == ["b"]


def test_binpack_weighs_cpu_more_than_memory() -> None:
    core = core_with("binpack")
    core.hello("cpu", cpu=10_000, memory=10_000)
    core.submit(resources={"cpu": 5000})
    core.hello("memory", cpu=10_000, memory=10_000)
    core.set_drained("cpu", drained=True)
    core.submit(resources={"cpu": 1, "memory": 9000})
    core.set_drained("cpu", drained=False)
    assert workers_of(core, 1) == ["cpu"]


def test_binpack_fills_up_cards_first_where_cards_are_asked_for() -> None:
    core = core_with("binpack")
    core.hello("cards", cpu=10_000, gpus=[8000, 8000])
    core.submit(resources={"gpu": 1, "cpu": 1})
    core.hello("cpu", cpu=10_000, gpus=[8000, 8000])
    core.set_drained("cards", drained=True)
    core.submit(resources={"cpu": 9000})
    core.set_drained("cards", drained=False)
    assert workers_of(core, 1, resources={"gpu": 1, "cpu": 1}) == ["cards"]
    assert workers_of(core, 1, resources={"cpu": 1}) == ["cpu"]


def test_spread_puts_a_job_into_other_zones_first_then_on_other_workers() -> None:
    core = core_with("spread")
    for name, zone in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")):
        core.hello(name, cpu=8000, tags=[f"zone={zone}"])
    placed = workers_of(core, 4, name="job")
    assert sorted(placed) == ["a1", "a2", "b1", "b2"]
    assert placed[0][0] != placed[1][0]
    assert Counter(workers_of(core, 4, name="job")) == Counter(placed)


def test_spread_counts_jobs_apart_and_forgets_what_has_ended() -> None:
    core = core_with("spread")
    core.hello("w1", cpu=8000)
    core.hello("w2", cpu=8000)
    first = only(core.submit(affinity="a"))
    there = core.worker_of(first)
    other = "w2" if there == "w1" else "w1"
    assert workers_of(core, 1, affinity="a") == [other]
    core.end(first)
    assert workers_of(core, 1, affinity="a") == [there]
    core.submit(3, affinity="b")
    assert abs(Counter(core.workers_of(seq for seq in core.state.tasks))["w1"] - 2.5) == 0.5


def test_consistent_hash_keeps_a_key_where_it_is() -> None:
    core = core_with("consistent-hash")
    for number in range(10):
        core.hello(f"w{number}", cpu=100_000)
    homes = {}
    for key in "abcdefgh":
        seq = only(core.submit(affinity=key))
        homes[key] = core.worker_of(seq)
        core.end(seq)
    for key in "hgfedcba":
        seq = only(core.submit(affinity=key))
        assert core.worker_of(seq) == homes[key]
        core.end(seq)
    assert len(set(homes.values())) > 2


def test_a_hot_key_spills_over() -> None:
    core = core_with("consistent-hash")
    for number in range(4):
        core.hello(f"w{number}", cpu=100_000)
    counts = Counter(workers_of(core, 40, affinity="hot"))
    assert max(counts.values()) <= 1.25 * 40 / 4 + 1
    assert len(counts) == 4


def test_tasks_without_affinity_are_spread_by_their_ids() -> None:
    core = core_with("consistent-hash")
    for number in range(4):
        core.hello(f"w{number}", cpu=100_000)
    assert len(set(core.workers_of(core.submit(40)))) == 4


def test_quick_tasks_of_policies_that_look_at_tasks_never_stand_in_line() -> None:
    for placement in ("spread", "consistent-hash"):
        core = core_with(placement)
        core.hello(cpu=1000)
        first = only(core.submit())
        core.end(first, run_s=0.001)
        core.submit(5)
        assert [len(lane.line) for lane in core.state.cluster.workers[WorkerId("w1")].lanes.values()] == [1]
