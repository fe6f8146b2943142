"""What every placement policy owes, whichever it is: the cases that a new one has to pass as well."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from rota.core.cluster import Room
from rota.core.model import Shape, WorkerId, WorkerRecord
from rota.core.placement.placements import Placements
from rota.core.placement.policies import POLICIES
from rota.core.queues import Queue
from rota.core.workers import Worker
from tests.support.core import QUIET, Core, make_offer, only

ALL = pytest.mark.parametrize("name", list(POLICIES))


def core_with(name: str, *, seed: int = 0) -> Core:
    return Core(config=replace(QUIET, placement=name, seed=seed))


def workers_of(count: int) -> list[Worker]:
    made = []
    for number in range(1, count + 1):
        record = WorkerRecord(
            WorkerId(f"w{number}"), "i1", make_offer(), drained=False, registered_at=0.0, lost_at=None
        )
        made.append(Worker(record, number=number, now=0.0))
    return made


@ALL
def test_all_workers_are_filled_and_none_beyond_its_room(name: str) -> None:
    core = core_with(name)
    for number in range(5):
        core.hello(f"w{number}", cpu=1000 * (number + 1))

    seqs = core.submit(20)

    where = [core.worker_of(seq) for seq in seqs if core.task(seq).run is not None]
    assert {worker: where.count(worker) for worker in where} == {f"w{number}": number + 1 for number in range(5)}
    assert core.state.pending.size == 20 - 15


@ALL
def test_only_worker_that_fits_is_found_whoever_else_is_there(name: str) -> None:
    core = core_with(name)
    for number in range(9):
        core.hello(f"w{number}", cpu=1000, memory=100 + number)
    assert core.workers_of(core.submit(resources={"memory": 108})) == ["w8"]
    assert core.states(core.submit(resources={"memory": 108})) == ["pending"]


@ALL
def test_worker_that_gets_room_again_is_given_what_waits(name: str) -> None:
    core = core_with(name)
    core.hello("w1", cpu=2000)
    core.hello("w2", cpu=2000)
    first = core.submit(4)
    waiting = only(core.submit())
    for seq in first[1:3]:
        core.end(seq)
    assert core.states([waiting]) == ["assigned"]
    assert len(core.submit(1)) == 1
    assert core.state.pending.size == 0


@ALL
def test_nothing_goes_to_who_drains_or_is_gone(name: str) -> None:
    core = core_with(name)
    for worker in ("w1", "w2", "w3"):
        core.hello(worker, cpu=9000)
    core.submit(3)
    core.set_drained("w1", drained=True)
    core.close("w2")
    assert set(core.workers_of(core.submit(6))) == {"w3"}


@ALL
def test_same_seed_gives_the_same_choices(name: str) -> None:
    def run(seed: int) -> list[str]:
        core = core_with(name, seed=seed)
        for number in range(12):
            core.hello(f"w{number}", cpu=4000, tags=[f"zone=z{number % 3}"])
        seqs = core.submit(20)
        for seq in seqs[::3]:
            core.end(seq)
        return core.workers_of([*core.submit(9), *core.submit(3, resources={"cpu": 500})])

    assert run(1) == run(1)
    assert run(2) == run(2)


@ALL
@pytest.mark.parametrize("refused_share", [0.0, 0.5])
def test_looks_at_workers_do_not_grow_with_their_number(name: str, refused_share: float) -> None:
    def looks(count: int) -> float:
        """How often ``has_room`` is asked for each of 200 choices, with those full that have the lowest numbers."""
        workers = workers_of(count)
        placements = Placements(random.Random(1), default=name)
        policy = placements.policy(name)
        room = Room(Shape((("cpu", 1000),), frozenset()), policy, Queue("default"))
        index = placements.make_index(room, workers)
        full = set(random.Random(2).sample(range(1, count + 1), int(count * refused_share)))
        asked = 0

        def has_room(worker: Worker) -> bool:
            nonlocal asked
            asked += 1
            return worker.number not in full and room.plain[0][1] <= worker.ledger.free["cpu"]

        for seq in range(1, 201):
            assert index.choose(f"t{seq}", has_room) is not None
        # Whoever was refused is forgotten, so that each costs one look in all.
        return (asked - len(full)) / 200

    assert looks(4000) <= 2.0
    assert looks(250) <= 2.0


@ALL
def test_refused_worker_is_forgotten_until_it_is_offered_again(name: str) -> None:
    workers = workers_of(3)
    placements = Placements(random.Random(1), default=name)
    room = Room(Shape((("cpu", 1000),), frozenset()), placements.policy(name), Queue("default"))
    index = placements.make_index(room, workers)
    assert index.choose("t1", lambda _: False) is None
    assert index.choose("t1", lambda _: True) is None
    index.offer(workers[1])
    index.offer(workers[1])
    assert index.choose("t1", lambda _: True) is workers[1]
    assert index.choose("t1", lambda _: True) is workers[1]


@ALL
def test_policy_of_a_task_wins_over_that_of_its_queue_and_of_the_coordinator(name: str) -> None:
    core = core_with("first-fit")
    core.set_queue("q", placement="round-robin")
    core.hello("w1")

    seqs = [only(core.submit(queue="q", placement=name)), only(core.submit(queue="q")), only(core.submit())]

    runs = [core.task(seq).run for seq in seqs]
    policies = [run.lane.room.policy.name for run in runs if run is not None]
    assert policies == [name, "round-robin", "first-fit"]


@ALL
def test_preferred_workers_come_first_and_others_do_as_well(name: str) -> None:
    core = core_with(name)
    core.hello("plain", cpu=4000)
    core.hello("fast", cpu=2000, tags=["ssd", "gpu"])
    core.hello("some", cpu=1000, tags=["ssd"])
    assert core.workers_of(core.submit(4, tags=["ssd~", "gpu~"])) == ["fast", "fast", "some", "plain"]


@ALL
def test_restart_goes_on_with_the_lanes_that_are_there(name: str) -> None:
    core = core_with(name)
    for worker in ("w1", "w2"):
        core.hello(worker, cpu=3000)
    seqs = core.submit(4)
    held = {worker: [core.held(seq) for seq in seqs if core.worker_of(seq) == worker] for worker in ("w1", "w2")}

    again = core.restarted()
    for worker, holds in held.items():
        again.hello(worker, cpu=3000, holds=holds)
    more = again.submit(2)

    assert again.states([*seqs, *more]) == ["assigned"] * 6
    for seq in [*seqs, *more]:
        again.end(seq)
    assert again.state.tasks == {}
