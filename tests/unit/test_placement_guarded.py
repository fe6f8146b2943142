"""A placement policy of another package that fails: the coordinator goes on, with one of ours in its place."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rota.core.cluster import Room
from rota.core.errors import BadSpec
from rota.core.model import TaskSeq
from rota.core.placement.base import CommonOrder, HasRoom, PlacementPolicy, RoomIndex
from rota.core.placement.first_fit import FirstFit
from rota.core.placement.guarded import GuardedPolicies
from rota.core.placement.least_loaded import LeastLoaded
from rota.core.placement.policies import POLICIES, ForeignPolicy, PolicyFactory, check_placement
from rota.core.task import Task
from rota.core.why import why_it_waits
from rota.core.workers import Worker
from tests.support.core import QUIET, Core


class Fragile(PlacementPolicy):
    """First fit, until it is told to fail at one of its methods."""

    name = "fragile"
    looks_at_tasks = True
    watches_lanes = True
    fails_at = ""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._fail("init")
        self.fits = FirstFit(rng)

    def _fail(self, where: str) -> None:
        if where == type(self).fails_at:
            raise ZeroDivisionError(f"in {where}")

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:
        self._fail("make_index")
        return FragileIndex(self, self.fits.make_index(room, workers))

    def key_of(self, task: Task) -> str:
        self._fail("key_of")
        return 5 if type(self).fails_at == "text" else "key"  # type: ignore[return-value]  # that is the point

    def lane_opened(self, worker: Worker) -> None:
        self._fail("lane_opened")

    def opened(self, worker: Worker, key: str) -> None:
        self._fail("opened")

    def closed(self, worker: Worker, key: str) -> None:
        self._fail("closed")


class FragileIndex:
    def __init__(self, policy: Fragile, index: RoomIndex) -> None:
        self._policy = policy
        self._index = index
        self._first: Worker | None = None

    def offer(self, worker: Worker) -> None:
        self._policy._fail("offer")
        self._index.offer(worker)

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        self._policy._fail("choose")
        worker = self._index.choose(key, has_room)
        self._first = self._first or worker
        return self._first if self._policy.fails_at == "overfilling" else worker


class FragileOrder(Fragile):
    """The same with an order that all shapes share."""

    looks_at_tasks = False

    def make_order(self) -> CommonOrder | None:
        self._fail("make_order")
        return Order(self)


class Order:
    def __init__(self, policy: Fragile) -> None:
        self._policy = policy
        self._workers: list[Worker] = []

    def offer(self, worker: Worker) -> None:
        self._policy._fail("order.offer")
        self._workers.append(worker)

    def look(self, has_room: HasRoom) -> Worker | None:
        self._policy._fail("look")
        return next(filter(has_room, self._workers), None)

    def __len__(self) -> int:
        return len(self._workers)


def core_with(policy: type[Fragile], **config: Any) -> tuple[Core, GuardedPolicies]:
    policies = GuardedPolicies({**POLICIES, "fragile": policy}, default=config.get("placement", "fragile"))
    return Core(
        config=replace(QUIET, placement="fragile") if not config else replace(QUIET, **config), policies=policies
    ), policies


def finish(core: Core, seq: TaskSeq) -> None:
    core.start(seq)
    core.end(seq)


PLACES = ["init", "make_index", "key_of", "text", "lane_opened", "opened", "closed", "offer", "choose", "overfilling"]
PLACES_OF_ORDER = ["make_order", "order.offer", "look", "choose", "make_index"]


@pytest.mark.parametrize(
    "policy,fails_at", [*((Fragile, at) for at in PLACES), *((FragileOrder, at) for at in PLACES_OF_ORDER)]
)
def test_whatever_fails_nothing_is_lost_and_one_of_ours_stands_in(
    monkeypatch: pytest.MonkeyPatch, policy: type[Fragile], fails_at: str
) -> None:
    core, guards = core_with(policy)
    core.hello("w1", cpu=4000)
    core.hello("w2", cpu=4000)
    before = core.submit(3)
    assert core.states(before) == ["assigned"] * 3 or guards.failures == {}
    monkeypatch.setattr(policy, "fails_at", fails_at)
    if fails_at in ("init", "make_index", "make_order", "order.offer"):
        core, guards = core_with(policy)
        core.hello("w1", cpu=4000)
        core.hello("w2", cpu=4000)
        before = core.submit(3)
    finish(core, before[0])
    core.hello("w3", cpu=4000)
    after = core.submit(12)  # more than there is room for
    assert core.states(after).count("assigned") + 2 == 12
    monkeypatch.setattr(policy, "fails_at", "")  # it is not asked again, even if it would do well
    finish(core, before[1])
    assert core.states(after).count("assigned") + 1 == 12
    assert list(guards.failures) == ["fragile"]
    [told] = guards.take_news()
    assert told.stand_in == "least-loaded"
    assert ("ZeroDivisionError" in told.problem) == (fails_at not in ("text", "overfilling"))
    assert "Traceback" in told.traceback
    assert guards.take_news() == ()
    waiting = next(seq for seq in after if core.task(seq).run is None)
    assert f"its placement policy 'fragile' has failed ({told.problem}): least-loaded stands in" in (
        why_it_waits(core.state, core.task(waiting)).text
    )


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def test_a_policy_that_leaves_or_can_not_even_say_what_is_wrong_is_replaced_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for error, problem in ((SystemExit("needs numpy"), "SystemExit: needs numpy"), (Mute(), "Mute")):

        def fail(*_: object, error: BaseException = error) -> bool:
            raise error

        for name in ("__init__", "looks_at_tasks"):
            broken = type("Broken", (Fragile,), {name: property(fail) if name != "__init__" else fail})
            core, guards = core_with(broken)
            core.hello("w1", cpu=4000)
            assert core.states(core.submit(2)) == ["assigned"] * 2
            assert guards.failures["fragile"].problem == problem


def test_the_policy_of_the_coordinator_stands_in_where_it_can() -> None:
    for default, stand_in in (("binpack", "binpack"), ("spread", "least-loaded"), ("fragile", "least-loaded")):
        assert GuardedPolicies({**POLICIES, "fragile": Fragile}, default=default).stand_in == stand_in


def test_a_failure_costs_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    core, guards = core_with(Fragile, placement="first-fit")
    monkeypatch.setattr(Fragile, "fails_at", "choose")
    for name in ("w1", "w2"):
        core.hello(name, cpu=2000)
    assert core.workers_of(core.submit(2)) == ["w1", "w1"]
    assert guards.failures == {}
    [seq] = core.submit(placement="fragile")
    assert core.worker_of(seq) == "w2"
    assert guards.failures["fragile"].stand_in == "first-fit"


def test_ours_are_used_as_they_are() -> None:
    guards = GuardedPolicies(POLICIES)
    assert all(guards[name] is POLICIES[name] for name in POLICIES)


def test_the_same_commands_fail_at_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def placed() -> list[str]:
        monkeypatch.setattr(Fragile, "fails_at", "")
        core, _ = core_with(Fragile)
        for number in range(5):
            core.hello(f"w{number}", cpu=3000)
        seqs = core.submit(5)
        monkeypatch.setattr(Fragile, "fails_at", "choose")
        return core.workers_of(seqs + core.submit(8))

    assert placed() == placed()


class Unloadable(ForeignPolicy):
    def check(self) -> None:
        raise BadSpec("placement", "the policy 'broken' of the package p can't be used: ImportError: no")

    def __call__(self, rng: random.Random) -> PlacementPolicy:
        self.check()
        raise AssertionError


def test_a_policy_that_cannot_be_loaded_is_refused_where_it_is_named_and_replaced_where_it_was_named_before() -> None:
    factories: dict[str, PolicyFactory] = {**POLICIES, "broken": Unloadable()}
    guards = GuardedPolicies(factories)
    for known in (factories, guards):
        with pytest.raises(BadSpec, match="of the package p can't be used: ImportError: no"):
            check_placement("broken", known)
    core = Core(policies=guards)
    core.hello("w1", cpu=1000)
    [seq] = core.submit(placement="broken")  # it was accepted before the package broke
    assert core.worker_of(seq) == "w1"
    assert "ImportError: no" in guards.failures["broken"].problem


def test_a_fault_of_ours_is_not_hidden() -> None:
    class Ours(LeastLoaded):
        def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:
            raise KeyError

    make: Callable[[random.Random], PlacementPolicy] = Ours
    core = Core(policies={**POLICIES, "least-loaded": make})
    core.hello("w1", cpu=1000)
    with pytest.raises(KeyError):
        core.submit()
