"""Random histories of heartbeats, requests and time, against a second implementation that looks at everybody."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from rota.core.advisor.advisor import Advisor
from rota.core.advisor.model import AdvisedWorker, Beat, Ticket
from rota.core.config import SchedulerConfig
from rota.core.tags import TagFilter

TAGS = ("gpu", "ssd", "cuda-12.0", "cuda-11.8")
WISHES = ((), ("gpu",), ("ssd",), ("gpu", "ssd"), ("!gpu",), ("cuda>=12",), ("ssd~",), ("gpu", "ssd~", "cuda>=12~"))
PLACEMENTS = ("least-loaded", "least-loaded", "binpack", "first-fit", "round-robin", "random")
MEMORY = (None, None, 100, 300)


class Known(Struct):
    """A worker, to somebody who does the same without an index."""

    number: int
    tags: frozenset[str]
    current: int
    most: int
    memory: int | None
    heard: float
    turn: int = 0


class Slow:
    """Looks at every worker for every request."""

    def __init__(self) -> None:
        self.workers: dict[str, Known] = {}
        self.turns = 0

    def beat(self, beat: Beat, now: float) -> None:
        known = self.workers.get(beat.worker_id)
        number, turn = (known.number, known.turn) if known is not None else (len(self.workers) + 1, 0)
        memory = beat.resources["memory"] if beat.resources is not None else None
        self.workers[beat.worker_id] = Known(number, beat.tags, beat.current_tasks, beat.max_tasks, memory, now, turn)

    def best(self, wishes: tuple[str, ...], placement: str, memory: int | None, now: float) -> set[str]:
        """All that may be chosen."""
        wanted = TagFilter(wishes)
        able = {
            name: worker
            for name, worker in self.workers.items()
            if wanted.accepts(worker.tags)
            and worker.current < worker.most
            and now - worker.heard < 10.0
            and (memory is None or (worker.memory is not None and worker.memory >= memory))
        }
        ranks = {name: (-wanted.preference(worker.tags), self.rank(worker, placement)) for name, worker in able.items()}
        return {name for name, rank in ranks.items() if rank == min(ranks.values())}

    def rank(self, worker: Known, placement: str) -> float:
        load = worker.current / worker.most
        by_name = {"least-loaded": load, "binpack": -load, "first-fit": worker.number, "round-robin": worker.turn}
        return by_name.get(placement, 0.0)

    def give(self, name: str, placement: str, memory: int | None) -> None:
        worker = self.workers[name]
        worker.current += 1
        if memory is not None:
            assert worker.memory is not None
            worker.memory -= memory
        if placement == "round-robin":
            self.turns += 1
            worker.turn = self.turns


beats = st.tuples(
    st.just("beat"),
    st.integers(0, 5),
    st.frozensets(st.sampled_from(TAGS), max_size=3),
    st.sampled_from([0, 1, 3, 4, 7]),
    st.integers(0, 3),
    st.sampled_from([None, 0, 250, 1000]),
)
asks = st.tuples(
    st.just("ask"), st.sampled_from(WISHES), st.sampled_from(PLACEMENTS), st.sampled_from(MEMORY), st.booleans()
)
times = st.tuples(st.just("time"), st.sampled_from([0.5, 1.0, 3.0, 9.0, 21.0]))
leaves = st.tuples(st.just("leave"), st.integers(0, 10))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(beats, beats, asks, asks, asks, times, leaves), min_size=60, max_size=120), st.integers(0, 1000)
)
def test_whoever_is_chosen_is_among_the_best_of_all(steps: list[tuple], seed: int) -> None:  # type: ignore[type-arg]  # steps of four shapes
    advisor, slow = Advisor(SchedulerConfig(), random.Random(seed)), Slow()
    waiting: dict[Ticket, tuple[tuple[str, ...], int | None]] = {}
    now = 0.0
    for step in steps:
        match step:
            case ("beat", number, tags, most, current, memory):
                resources = {"memory": memory} if memory is not None else None
                beat = Beat(f"w{number}", "", tags, most, current, resources)
                slow.beat(beat, now)
                for one in advisor.heartbeat(beat, now=now, wall=now):
                    wishes, memory = waiting[one.ticket]
                    assert one.ticket == first_served(waiting, slow, now)
                    assert one.worker.id in slow.best(wishes, "least-loaded", memory, now)
                    slow.give(one.worker.id, "least-loaded", memory)
                    del waiting[one.ticket]
                assert first_served(waiting, slow, now) is None
            case ("ask", wishes, placement, memory, waits):
                resources = {"memory": memory} if memory is not None else None
                demand = advisor.demand(list(wishes), resources=resources, placement=placement)
                best = slow.best(wishes, placement, memory, now)
                worker = advisor.advise(demand, now=now)
                assert (worker is None) == (not best)
                if worker is not None:
                    assert worker.id in best
                    slow.give(worker.id, placement, memory)
                elif waits and placement == "least-loaded":
                    waiting[advisor.wait(demand, priority=50)] = wishes, memory
            case ("time", seconds):
                now += seconds
            case ("leave", number) if waiting:
                ticket = sorted(waiting)[number % len(waiting)]
                del waiting[ticket]
                advisor.withdraw(ticket)
            case _:
                pass
        advisor.check_invariants(now=now)
        assert_counts_agree(advisor.workers, slow)
    assert advisor.waiting == len(waiting)


def first_served(waiting: dict[Ticket, tuple[tuple[str, ...], int | None]], slow: Slow, now: float) -> Ticket | None:
    """Who waits and could have a worker, the first of them."""
    for ticket in sorted(waiting):
        wishes, memory = waiting[ticket]
        if slow.best(wishes, "least-loaded", memory, now):
            return ticket
    return None


def assert_counts_agree(workers: dict[str, AdvisedWorker], slow: Slow) -> None:
    assert {name: worker.current_tasks for name, worker in workers.items()} == {
        name: known.current for name, known in slow.workers.items()
    }


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12),
    st.integers(1, 60),
    st.integers(0, 1000),
)
def test_no_worker_is_ever_given_more_than_it_allows(loads: list[tuple[int, int]], asked: int, seed: int) -> None:
    advisor = Advisor(SchedulerConfig(), random.Random(seed))
    for number, (current, most) in enumerate(loads):
        advisor.heartbeat(Beat(f"w{number}", "", frozenset(), most, current), now=0.0, wall=0.0)
    demand = advisor.demand([], resources=None, placement="least-loaded")
    given_out = sum(advisor.advise(demand, now=0.0) is not None for _ in range(asked))
    assert given_out == min(asked, sum(max(0, most - current) for current, most in loads))
    for number, (current, most) in enumerate(loads):
        assert advisor.workers[f"w{number}"].current_tasks <= max(current, most)
