"""Placement alone: given workers that have said how they are, when somebody asks, then who gets the task."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from rota.core.advisor import advisor as advisor_module
from rota.core.advisor import demands as demands_module
from rota.core.advisor.advisor import Advisor
from rota.core.advisor.index import SPARE_RANKS, RankIndex
from rota.core.advisor.model import Beat, Ticket, WorkerGroup
from rota.core.config import SchedulerConfig
from rota.core.errors import Overloaded
from rota.core.model import WorkerState
from rota.core.tags import TagSyntaxError

WALL = 1_800_000_000.0


class Desk:
    """An advisor with a clock that a test moves; the state checks itself after every step."""

    def __init__(self, *, seed: int = 0) -> None:
        self.now = 100.0
        self.advisor = Advisor(SchedulerConfig(forget_after_s=1000.0), random.Random(seed))

    def beat(
        self,
        worker_id: str,
        current: int = 0,
        most: int = 10,
        *,
        tags: str = "",
        resources: dict[str, int] | None = None,
    ) -> list[tuple[Ticket, str]]:
        """A heartbeat; returns who of those who waited has which worker."""
        beat = Beat(worker_id, f"{worker_id}:9000", frozenset(tags.split()), most, current, resources)
        granted = self.advisor.heartbeat(beat, now=self.now, wall=WALL + self.now)
        self.advisor.check_invariants(now=self.now)
        return [(one.ticket, one.worker.id) for one in granted]

    def ask(
        self, tags: str = "", *, placement: str = "least-loaded", resources: dict[str, int] | None = None
    ) -> str | None:
        demand = self.advisor.demand(tags.split(), resources=resources, placement=placement)
        worker = self.advisor.advise(demand, now=self.now)
        self.advisor.check_invariants(now=self.now)
        return worker.id if worker is not None else None

    def wait(self, tags: str = "", *, priority: int = 50, resources: dict[str, int] | None = None) -> Ticket:
        assert self.ask(tags, resources=resources) is None
        demand = self.advisor.demand(tags.split(), resources=resources, placement="least-loaded")
        return self.advisor.wait(demand, priority=priority)

    def state(self, worker_id: str) -> WorkerState:
        return self.advisor.state_of(self.advisor.workers[worker_id], now=self.now)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_lowest_ratio_gets_the_task_not_the_fewest_tasks(desk: Desk) -> None:
    desk.beat("small", 1, 2)
    desk.beat("large", 4, 10)
    assert desk.ask() == "large"


def test_nobody_gets_a_task_when_nobody_is_known(desk: Desk) -> None:
    assert desk.ask() is None


def test_tasks_are_counted_at_once(desk: Desk) -> None:
    desk.beat("a", 0, 2)
    desk.beat("b", 1, 4)
    assert [desk.ask() for _ in range(3)] == ["a", "b", "a"] or desk.advisor.workers["a"].current_tasks == 2
    assert Counter(desk.ask() for _ in range(3)) == {"b": 2, None: 1}


def test_requests_of_one_kind_see_the_tasks_that_others_were_given(desk: Desk) -> None:
    for name, most in (("a", 7), ("b", 50), ("c", 100)):
        desk.beat(name, 0, most, tags="gpu")
    kinds = ["", "gpu", "gpu~", "!tpu"]
    for kind in kinds * 20:
        lowest = min(worker.load for worker in desk.advisor.workers.values())
        best = {worker.id for worker in desk.advisor.workers.values() if worker.load == lowest}
        assert desk.ask(kind) in best


def test_heartbeat_corrects_the_count(desk: Desk) -> None:
    desk.beat("a", 0, 1)
    assert desk.ask() == "a"
    assert desk.ask() is None
    desk.beat("a", 0, 1)
    assert desk.ask() == "a"
    desk.beat("a", 1, 1)
    assert desk.ask() is None


def test_worker_that_allows_no_task_gets_none(desk: Desk) -> None:
    desk.beat("a", 0, 0)
    desk.beat("b", 7, 3)
    assert desk.ask() is None


def test_ties_are_drawn_among_all_that_tie() -> None:
    first: Counter[str | None] = Counter()
    for seed in range(400):
        desk = Desk(seed=seed)
        for name, tags in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "z")):
            desk.beat(name, 0, 10, tags=tags)
        desk.beat("busy", 1, 10)
        first[desk.ask()] += 1
    assert set(first) == {"a", "b", "c", "d"}
    assert min(first.values()) > 60


def test_same_seed_gives_the_same_answers() -> None:
    runs = []
    for _ in range(2):
        desk = Desk(seed=7)
        for number in range(20):
            desk.beat(f"w{number}")
        runs.append([desk.ask() for _ in range(50)])
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    "tags,found",
    [
        ("", {"plain", "old", "new"}),
        ("gpu", {"old", "new"}),
        ("gpu cuda-12.4", {"new"}),
        ("!gpu", {"plain"}),
        ("cuda>=12", {"new"}),
        ("gpu fast~", {"new"}),
        ("gpu tpu~", {"old", "new"}),
        ("a100:80g", {"new"}),
        ("tpu", {None}),
        ("gpu tpu", {None}),
    ],
)
def test_tags_say_who_may_have_it(tags: str, found: set[str | None]) -> None:
    seen = set()
    for seed in range(20):
        desk = Desk(seed=seed)
        desk.beat("plain")
        desk.beat("old", tags="gpu cuda-11.8")
        desk.beat("new", tags="gpu cuda-12.4 fast a100:80g")
        seen.add(desk.ask(tags))
    assert seen == found


def test_preferred_tag_gives_way_when_its_workers_are_full(desk: Desk) -> None:
    desk.beat("slow", 0, 1)
    desk.beat("fast", 0, 1, tags="fast")
    assert [desk.ask("fast~") for _ in range(3)] == ["fast", "slow", None]


def test_expression_that_makes_no_sense_is_refused_with_its_place(desk: Desk) -> None:
    with pytest.raises(TagSyntaxError, match="character 7"):
        desk.ask("cuda>=")


def test_worker_whose_tags_change_is_found_by_the_new_ones(desk: Desk) -> None:
    desk.beat("a", tags="gpu")
    assert desk.ask("gpu") == "a"
    desk.beat("a", tags="cpu")
    assert (desk.ask("gpu"), desk.ask("cpu")) == (None, "a")


@pytest.mark.parametrize(
    "silent_s,state,found",
    [(9.9, "online", "a"), (10.0, "suspicious", None), (19.9, "suspicious", None), (20.0, "offline", None)],
)
def test_silent_worker_is_suspicious_then_offline_and_gets_nothing(
    desk: Desk, silent_s: float, state: str, found: str | None
) -> None:
    desk.beat("a")
    desk.now += silent_s
    assert (desk.state("a"), desk.ask()) == (state, found)


def test_worker_that_speaks_again_is_there_again(desk: Desk) -> None:
    desk.beat("a")
    desk.now += 30.0
    assert desk.ask() is None
    desk.beat("a")
    assert desk.ask() == "a"


def test_standstill_of_ours_is_nobodys_silence(desk: Desk) -> None:
    desk.beat("a")
    desk.now += 4.0
    assert desk.ask() == "a"
    desk.now += 15.0
    assert desk.ask() is None  # it has already been judged when the standstill is noticed
    desk.advisor.credit(14.0, now=desk.now)
    assert (desk.state("a"), desk.ask()) == ("online", "a")


def test_standstill_serves_those_who_wait(desk: Desk) -> None:
    desk.beat("a")
    desk.now += 15.0
    ticket = desk.wait()
    granted = desk.advisor.credit(14.0, now=desk.now)
    assert [(one.ticket, one.worker.id) for one in granted] == [(ticket, "a")]


def test_worker_is_forgotten_after_long_silence(desk: Desk) -> None:
    desk.beat("a", tags="gpu")
    desk.now += 500.0
    desk.beat("b")
    desk.now += 500.0
    desk.advisor.forget(now=desk.now)
    assert list(desk.advisor.workers) == ["b"]
    desk.advisor.check_invariants(now=desk.now)


def test_too_many_workers_are_refused_until_some_are_offline(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisor_module, "WORKERS_MAX", 2)
    desk.beat("a")
    desk.beat("b")
    with pytest.raises(Overloaded):
        desk.beat("c")
    desk.now += 10.0
    desk.beat("a")
    desk.now += 10.0
    desk.beat("c")
    assert set(desk.advisor.workers) == {"a", "c"}


def test_resources_must_be_free_and_are_taken_at_once(desk: Desk) -> None:
    desk.beat("silent", 0, 10)
    desk.beat("small", 0, 10, resources={"memory": 1000})
    desk.beat("large", 5, 10, resources={"memory": 4000})
    assert [desk.ask(resources={"memory": 1500}) for _ in range(3)] == ["large", "large", None]
    assert desk.ask(resources={"memory": 1000}) in {"large", "small"}
    assert desk.ask(resources={"gpu": 1}) is None
    desk.beat("large", 7, 10, resources={"memory": 1500})
    assert desk.ask(resources={"memory": 1500}) == "large"


def test_first_fit_fills_the_first_to_come(desk: Desk) -> None:
    desk.beat("z", 0, 2)
    desk.beat("a", 0, 2)
    assert [desk.ask(placement="first-fit") for _ in range(5)] == ["z", "z", "a", "a", None]


def test_round_robin_goes_round_whatever_the_loads(desk: Desk) -> None:
    for name, current in (("a", 5), ("b", 0), ("c", 9)):
        desk.beat(name, current, 20)
    turns = [desk.ask(placement="round-robin") for _ in range(9)]
    assert set(turns[:3]) == {"a", "b", "c"}
    assert turns == turns[:3] * 3


def test_binpack_fills_the_fullest_that_has_room(desk: Desk) -> None:
    desk.beat("empty", 0, 4)
    desk.beat("half", 2, 4)
    desk.beat("full", 4, 4)
    assert [desk.ask(placement="binpack") for _ in range(3)] == ["half", "half", "empty"]
    assert desk.ask() == "empty"
    assert desk.ask(placement="binpack") == "empty"


def test_binpack_hears_of_tasks_that_others_gave(desk: Desk) -> None:
    desk.beat("a", 0, 4)
    desk.beat("b", 1, 4)
    assert desk.ask("", placement="binpack") == "b"
    desk.beat("b", 0, 4)
    assert desk.ask() in {"a", "b"}
    fuller = max(desk.advisor.workers.values(), key=lambda worker: worker.load).id
    assert desk.ask(placement="binpack") == fuller


def test_random_spreads_over_all(desk: Desk) -> None:
    for number in range(4):
        desk.beat(f"w{number}", number * 100, 1000)
    assert len({desk.ask(placement="random") for _ in range(60)}) == 4


def test_who_waits_is_served_first_come_first_served(desk: Desk) -> None:
    desk.beat("a", 2, 2)
    tickets = [desk.wait() for _ in range(3)]
    assert desk.beat("a", 0, 2) == [(tickets[0], "a"), (tickets[1], "a")]
    assert desk.ask() is None
    assert desk.beat("b", 0, 5) == [(tickets[2], "b")]
    assert desk.advisor.waiting == 0


def test_higher_priority_is_served_first(desk: Desk) -> None:
    low, high, normal = (desk.wait(priority=priority) for priority in (10, 90, 50))
    assert [ticket for ticket, _ in desk.beat("a", 0, 3)] == [high, normal, low]


def test_priority_counts_across_kinds_of_requests(desk: Desk) -> None:
    plain, gpu = desk.wait(), desk.wait("gpu", priority=60)
    assert desk.beat("a", 0, 1, tags="gpu") == [(gpu, "a")]
    assert desk.beat("b", 0, 1) == [(plain, "b")]


def test_who_waits_for_what_a_worker_lacks_goes_on_waiting(desk: Desk) -> None:
    ticket = desk.wait("gpu", resources={"memory": 10})
    assert desk.beat("a", 0, 1) == []
    assert desk.beat("b", 0, 1, tags="gpu", resources={"memory": 9}) == []
    assert desk.beat("b", 0, 1, tags="gpu", resources={"memory": 10}) == [(ticket, "b")]


def test_who_has_gone_is_passed_over(desk: Desk) -> None:
    first, second = desk.wait(), desk.wait()
    desk.advisor.withdraw(first)
    desk.advisor.withdraw(first)
    assert desk.beat("a", 0, 1) == [(second, "a")]


def test_many_who_came_and_went_leave_nothing(desk: Desk) -> None:
    for _ in range(1000):
        desk.advisor.withdraw(desk.wait())
    (demand,) = desk.advisor._demands
    assert len(demand._queue) < 50


def test_waiting_has_a_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisor_module, "WAITERS_MAX", 2)
    desk.wait()
    desk.wait()
    with pytest.raises(Overloaded):
        desk.wait()


def test_kinds_of_requests_that_nobody_makes_any_more_are_forgotten(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demands_module, "DEMANDS_MAX", 20)
    desk.beat("a", 0, 10_000, tags="gpu")
    waiting = desk.wait("rare")
    for number in range(200):
        assert desk.ask(f"x{number}~") == "a"
        assert desk.ask("gpu") == "a"
    assert len(desk.advisor._demands) <= 20
    assert desk.beat("b", 0, 1, tags="rare") == [(waiting, "b")]


def test_requests_of_too_many_kinds_may_not_all_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demands_module, "DEMANDS_MAX", 16)
    for number in range(16):
        desk.wait(f"x{number}")
    with pytest.raises(Overloaded, match="kinds"):
        desk.ask("y")


def test_equal_requests_share_a_demand_however_they_are_spelled(desk: Desk) -> None:
    find = desk.advisor.demand
    first = find(["b", "a"], resources={"x": 1, "y": 2}, placement="random")
    assert find(["a", "b", "a"], resources={"y": 2, "x": 1}, placement="random") is first


def test_ranks_that_came_and_went_are_cleared_away() -> None:
    index = RankIndex("least-loaded", (), random.Random(0))
    desk = Desk()
    desk.beat("a")
    worker = desk.advisor.workers["a"]
    assert isinstance(worker.group, WorkerGroup)
    for current in range(5000, 0, -1):
        worker.take_in(Beat("a", "", frozenset(), 10_000, current), now=1.0, wall=1.0)
        index.offer(worker)
    assert len(index._ranks) < 100
    assert index.find(heard_after=0.0) is worker


def test_rank_that_is_cleared_away_while_it_is_looked_at_does_no_harm(desk: Desk) -> None:
    desk.ask()
    for most in range(SPARE_RANKS, 2 * SPARE_RANKS):  # one of these leaves as many empty ranks as are just kept
        for current in range(most, 0, -1):
            desk.beat("a", 2 * current, 10_000, tags="x")
        assert desk.ask("x") == "a"  # so that it stands elsewhere than the other index thinks
        assert desk.ask() == "a"
