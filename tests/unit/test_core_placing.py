"""Which task goes first and where to: priority, first come, least-loaded, tags, cards and limits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from rota.core.cluster import ROOMS_MAX, Room
from rota.core.effects import Effect, WorkerKnown
from rota.core.indexes import INDEXES
from rota.core.model import TaskSeq
from rota.core.placement.base import RoomIndex
from rota.core.placement.least_loaded import LeastLoaded
from rota.core.placement.policies import POLICIES
from rota.core.resources import Devices, Ledger, split_need
from rota.core.workers import Worker
from tests.support.core import QUIET, Core, assignments, drafts_of, make_offer, notices, only, recalled


class Looks(LeastLoaded):
    """Counts the workers that its indexes begin with."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.noted = 0

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:
        self.noted += len(workers)
        return super().make_index(room, workers)


# Order


def test_higher_priority_goes_first_whatever_came_first() -> None:
    core = Core()
    low, high, critical, normal = (core.submit(priority=word)[0] for word in ("low", "high", "critical", "normal"))

    effects = core.hello(cpu=1000)
    assert [given.task for given in assignments(effects)] == [critical]
    for expected in (high, normal, low):
        [running] = (task.seq for task in core.state.tasks.values() if task.run)
        assert [given.task for given in assignments(core.end(running))] == [expected]


def test_higher_priority_goes_first_across_shapes() -> None:
    core = Core()
    low = only(core.submit(priority="low", resources={"cpu": 1000}))
    high = only(core.submit(priority="high", resources={"cpu": 500}))
    middle = only(core.submit(resources={"cpu": 700}))

    effects = core.hello(cpu=1200)

    assert [given.task for given in assignments(effects)] == [high, middle]
    assert core.states([low]) == ["pending"]


def test_within_a_priority_the_first_come_are_first_served_across_shapes() -> None:
    core = Core()
    expected = [only(core.submit(resources={"cpu": 1000 + index % 3})) for index in range(9)]
    assert [given.task for given in assignments(core.hello(cpu=9010))] == expected


def test_task_that_comes_back_keeps_its_place() -> None:
    core = Core()
    core.hello(cpu=1000)
    first = only(core.submit(retries=1, backoff=0))
    second, third = core.submit(2)

    effects = core.end(first, "exit")

    assert [given.task for given in assignments(effects)] == [first]
    assert core.states([second, third]) == ["pending", "pending"]


def test_small_task_fills_a_gap_that_a_large_one_can_not_use() -> None:
    core = Core()
    core.hello(cpu=4000)
    core.submit(resources={"cpu": 3000})
    large = only(core.submit(priority="critical", resources={"cpu": 4000}))
    small = only(core.submit(priority="low"))
    assert core.states([large, small]) == ["pending", "assigned"]


def test_cancelled_tasks_in_front_hold_nobody_up() -> None:
    core = Core()
    seqs = core.submit(5)
    core.cancel(*seqs[:3])
    assert [given.task for given in assignments(core.hello(cpu=1000))] == [seqs[3]]


# Where to


def test_each_task_goes_to_the_worker_with_the_lowest_load_ratio() -> None:
    core = Core()
    core.hello("w1", cpu=4000)
    core.hello("w2", cpu=8000)
    seqs = [only(core.submit()) for _ in range(6)]
    # Ratios before each: both 0, then the other is at 0, then 0.25 against 0.125, and so on.
    assert sorted(core.workers_of(seqs[:2])) == ["w1", "w2"]
    assert core.workers_of(seqs[2:3]) == ["w2"]
    assert core.workers_of(seqs).count("w1") == 2
    assert core.workers_of(seqs).count("w2") == 4


def test_load_is_that_of_the_scarcest_resource() -> None:
    core = Core()
    core.hello("w1", cpu=8000, memory=1000)
    core.hello("w2", cpu=8000, memory=8000)
    core.submit(resources={"cpu": 100, "memory": 500, "x": 0}, tags=[])
    core.submit(resources={"cpu": 3000, "memory": 500})
    loads = {worker.id: worker.ledger.load for worker in core.state.cluster.workers.values()}
    before = min(loads, key=lambda name: (loads[name], name))
    assert core.workers_of(core.submit(resources={"cpu": 1})) == [before]


def test_worker_that_became_free_is_preferred_again() -> None:
    core = Core()
    core.hello("w1")
    core.hello("w2")
    seqs = core.submit(6)
    freed = [seq for seq in seqs if core.worker_of(seq) == "w2"]
    for seq in freed:
        core.end(seq)
    assert core.workers_of(core.submit(2)) == ["w2", "w2"]


def test_equal_workers_are_chosen_by_lot() -> None:
    firsts = set()
    for seed in range(20):
        core = Core(config=replace(QUIET, seed=seed))
        for name in ("w1", "w2", "w3"):
            core.hello(name)
        firsts |= set(core.workers_of(core.submit()))
    assert firsts == {"w1", "w2", "w3"}


def test_required_tags_must_all_be_there() -> None:
    core = Core()
    core.hello("w1", tags=["gpu"])
    core.hello("w2", tags=["gpu", "cuda-12.0"])
    assert core.workers_of(core.submit(3, tags=["gpu", "cuda-12.0"])) == ["w2"] * 3


def test_kind_of_work_needs_its_executor() -> None:
    core = Core()
    core.hello("w1")
    container = only(core.submit(image="alpine"))
    assert core.states([container]) == ["pending"]
    core.hello("w2", kinds=frozenset({"process", "container"}))
    assert core.worker_of(container) == "w2"


def test_worker_that_comes_back_with_fewer_tags_gets_nothing_that_needs_them() -> None:
    core = Core()
    core.hello("w1", tags=["ssd"])
    core.end(only(core.submit(tags=["ssd"])))
    core.close("w1")
    core.hello("w1", instance="i2")
    assert core.states(core.submit(tags=["ssd"])) == ["pending"]
    assert core.states(core.submit()) == ["assigned"]


def test_max_tasks_bounds_the_lanes_whatever_the_resources_say() -> None:
    core = Core()
    core.hello(cpu=100_000, max_tasks=2)
    seqs = core.submit(3)
    assert core.states(seqs) == ["assigned", "assigned", "pending"]
    core.end(seqs[0])
    assert core.states(seqs[1:]) == ["assigned", "assigned"]


def test_capacity_is_never_overbooked() -> None:
    core = Core()
    core.hello(cpu=4000, memory=1000)
    seqs = core.submit(5, resources={"cpu": 500, "memory": 300})
    assert core.states(seqs).count("assigned") == 3
    assert core.state.cluster.used() == {"cpu": 1500, "memory": 900}
    assert core.state.cluster.capacity() == {"cpu": 4000, "memory": 1000}


# Cards


def test_whole_cards_are_given_to_one_lane_each() -> None:
    core = Core()
    core.hello(gpus=[8000, 16000, 16000])
    seqs = core.submit(3, resources={"gpu": 1, "cpu": 100})
    assert [core.progress(seq).devices for seq in seqs] == [(0,), (1,), (2,)]
    assert core.states(core.submit(resources={"gpu": 1, "cpu": 100})) == ["pending"]


def test_memory_of_a_card_is_matched_on_that_card() -> None:
    core = Core()
    core.hello(gpus=[8000, 16000])
    [given] = assignments(_submitted(core, {"gpu": 1, "gpu_memory": 10_000}))
    assert given.devices == (1,)
    assert core.states(core.submit(resources={"gpu": 1, "gpu_memory": 10_000})) == ["pending"]
    assert core.states(core.submit(resources={"gpu": 1})) == ["assigned"]


def test_shares_of_a_card_go_where_least_is_left_and_whole_cards_stay_whole() -> None:
    core = Core()
    core.hello(gpus=[8000, 16000])
    shares = [only(assignments(_submitted(core, {"gpu_memory": 4000, "cpu": 1}))).devices for _ in range(2)]
    assert shares == [(0,), (0,)]
    assert only(assignments(_submitted(core, {"gpu": 1, "cpu": 1}))).devices == (1,)
    assert core.states(core.submit(resources={"gpu_memory": 1, "cpu": 1})) == ["pending"]
    assert core.state.cluster.used()["gpu"] == 2


def test_card_is_given_back_when_its_lane_closes() -> None:
    core = Core()
    core.hello(gpus=[8000])
    first, second = core.submit(2, resources={"gpu": 1})
    assert core.states([first, second]) == ["assigned", "pending"]
    core.end(first)
    assert core.states([second]) == ["assigned"]


def test_cards_of_a_running_attempt_are_known_after_a_restart() -> None:
    core = Core()
    core.hello(gpus=[8000, 8000])
    first, second = core.submit(2, resources={"gpu": 1, "cpu": 1})
    core.end(first)
    kept = core.progress(second).devices
    assert kept == (1,)

    again = core.restarted()
    again.hello(gpus=[8000, 8000], holds=[core.held(second)])
    [given] = assignments(_submitted(again, {"gpu": 1, "cpu": 1}))
    assert given.devices == (0,)


# The parts


@pytest.mark.parametrize(
    "need,found",
    [
        ((0, 0), ()),
        ((1, 0), (0,)),
        ((3, 0), (0, 1, 2)),
        ((4, 0), None),
        ((1, 9), (1,)),
        ((2, 9), None),
        ((0, 5), (0,)),
        ((0, 10), (1,)),
        ((0, 11), None),
    ],
)
def test_devices_are_found_in_order_and_shares_on_the_tightest(
    need: tuple[int, int], found: tuple[int, ...] | None
) -> None:
    devices = Devices(make_offer(gpus=[8, 10, 6]).gpus)
    if need == (0, 5):
        devices.take((2,), 0, 3)
    assert devices.find(*need) == found


def test_need_is_parted_into_amounts_and_cards() -> None:
    assert split_need((("cpu", 1), ("gpu_memory", 7), ("x", 2))) == ((("cpu", 1), ("x", 2)), 0, 7)


def test_ledger_gives_back_what_it_reserved() -> None:
    ledger = Ledger((("cpu", 1000), ("x", 0)), ())
    ledger.reserve((("cpu", 250),))
    assert (ledger.used(), ledger.load) == ({"cpu": 250, "x": 0}, 0.25)
    assert not ledger.fits((("cpu", 751),))
    assert not ledger.fits((("y", 1),))
    ledger.release((("cpu", 250),))
    assert (ledger.used(), ledger.load) == ({"cpu": 0, "x": 0}, 0.0)


# Many shapes


def test_shape_of_its_own_costs_nothing_a_worker_while_it_waits() -> None:
    looks = Looks(random.Random(1))
    core = Core(policies={**POLICIES, "least-loaded": lambda _: looks})
    for number in range(20):
        core.hello(f"w{number}", cpu=1000)
    core.submit(20)
    looks.noted = 0
    for memory in range(50):
        core.submit(resources={"memory": 1 + memory})
    assert looks.noted == 0
    core.end(TaskSeq(1))
    assert looks.noted == 0
    assert core.state.pending.size == 49


def test_indexes_of_shapes_that_nobody_waits_for_are_bounded() -> None:
    core = Core(config=replace(QUIET, placement="binpack"))
    core.hello(cpu=10_000_000, memory=10_000_000)
    for memory in range(2 * INDEXES[1]):
        core.submit(resources={"memory": 1 + memory})
    indexes = [room for room in core.state.cluster.rooms.values() if room.index is not None]
    assert len(indexes) == INDEXES[1]


@pytest.mark.parametrize("placement", ["binpack", "least-loaded"])
@pytest.mark.parametrize("others", [1, 100])
def test_shape_that_was_not_looked_at_for_long_knows_who_was_freed_since(
    placement: str, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.core.indexes.FREED_MIN", 4)
    monkeypatch.setattr("tests.support.core.check_invariants", lambda _: None)  # which looks at all of them
    core = Core(config=replace(QUIET, placement=placement))
    core.hello("w1", cpu=1000)
    for name in ("w2", "w3"):
        core.hello(name, cpu=1000, tags=["ssd"])
    first, second, _ = core.submit(3, tags=["ssd"])  # the third finds nobody, and then takes the place of the first
    freed = core.worker_of(second)
    core.end(first)
    core.end(second)
    for _ in range(others):
        core.end(only(core.submit(tags=["!ssd"])))
    assert core.worker_of(only(core.submit(tags=["ssd"]))) == freed


def test_end_of_a_task_serves_the_first_of_many_shapes_that_wait() -> None:
    core = Core()
    core.hello("w1", cpu=1000)
    core.hello("w2", cpu=500)
    running = only(core.submit())
    waiting = [only(core.submit(resources={"memory": 1 + index})) for index in range(100)]
    small = only(core.submit(priority="low", resources={"cpu": 500, "memory": 1}))
    assert core.worker_of(small) == "w2"
    core.cancel(waiting[0])
    for expected in waiting[1:20]:
        [given] = assignments(core.end(running))
        assert given.task == expected
        running = given.task


def test_freed_worker_is_shared_by_shapes_in_their_order() -> None:
    core = Core()
    core.hello(cpu=4000)
    running = only(core.submit(resources={"cpu": 4000}))
    shapes = (3000, 2000, 1500, 1000, 900)
    seqs = [only(core.submit(resources={"cpu": cpu, "memory": cpu})) for cpu in shapes]
    assert [given.task for given in assignments(core.end(running))] == [seqs[0], seqs[3]]


def test_shape_whose_tasks_were_all_cancelled_is_placed_as_before() -> None:
    core = Core()
    core.hello(cpu=1000)
    running = only(core.submit(resources={"memory": 1}))
    core.cancel(*core.submit(3))
    core.end(running)
    assert core.states(core.submit()) == ["assigned"]


def test_idle_shapes_are_forgotten_when_they_have_doubled() -> None:
    core = Core()
    core.hello()
    for memory in range(ROOMS_MAX + 10):
        core.end(only(core.submit(resources={"memory": 1 + memory})))
    assert len(core.state.cluster.rooms) <= 10


# Drains


def test_drained_worker_gets_nothing_new_and_finishes_what_runs() -> None:
    core = Core()
    core.hello(cpu=2000)
    running = only(core.submit())
    assert "worker_drained" in notices(core.set_drained("w1", drained=True))
    waiting = only(core.submit())
    assert core.states([running, waiting]) == ["assigned", "pending"]
    assert recalled(core.set_drained("w1", drained=True)) == []
    core.end(running)
    assert core.states([running, waiting]) == ["completed", "pending"]
    core.set_drained("w1", drained=False)
    assert core.states([waiting]) == ["assigned"]


def test_drain_survives_a_restart_of_both() -> None:
    core = Core()
    core.hello()
    core.set_drained("w1", drained=True)
    again = core.restarted()
    again.hello(instance="i2")
    assert again.states(again.submit()) == ["pending"]


def test_unknown_worker_can_not_be_drained() -> None:
    core = Core()
    assert core.answer(core.set_drained("nobody", drained=True)) == WorkerKnown(known=False)


def _submitted(core: Core, resources: dict[str, int]) -> list[Effect]:
    """The effects of submitting one task that needs this."""
    return list(core.submit_drafts(drafts_of(1, core.wall, resources=resources)))


def test_shapes_that_find_somebody_at_a_look_have_no_index_of_their_own() -> None:
    looks = Looks(random.Random(1))
    core = Core(policies={**POLICIES, "least-loaded": lambda _: looks})
    for number in range(20):
        core.hello(f"w{number}", cpu=100_000, memory=100_000)
    looks.noted = 0
    for memory in range(50):
        core.submit(resources={"memory": 1 + memory})
    assert looks.noted == 0
    assert core.state.pending.size == 0


def test_shape_that_few_can_hold_is_found_whoever_else_is_idle() -> None:
    core = Core()
    for number in range(200):
        core.hello(f"w{number}", cpu=1000)
    core.hello("big", cpu=64_000)
    assert core.workers_of(core.submit(8, resources={"cpu": 8000})) == ["big"] * 8
    [last] = core.submit(resources={"cpu": 8000})
    assert core.states([last]) == ["pending"]
    core.end(TaskSeq(1))
    assert core.worker_of(last) == "big"


@pytest.mark.parametrize("frees", [10, 5000], ids=["reads on", "looks at all anew"])
def test_who_was_freed_while_a_shape_was_not_looked_at_is_known_to_it(frees: int) -> None:
    core = Core()
    core.hello("w1", cpu=8000)
    core.hello("w2", cpu=2000)
    large = only(core.submit(resources={"cpu": 8000}))
    [waiting] = core.submit(resources={"cpu": 8000})  # has an index of its own by now
    core.cancel(waiting)
    for _ in range(frees):
        core.end(only(core.submit(resources={"cpu": 500})))
    core.end(large)
    assert core.workers_of(core.submit(resources={"cpu": 8000})) == ["w1"]
