"""Keeps a policy of another package from stopping a coordinator: what it raises is noted, and one of ours stands in.

Only policies of others are guarded; ours are used as they are, and cost what they cost. The first thing that one
raises, or does that no policy may, such as choosing a worker without room, is the last that is asked of it: a policy
that has failed once may have any state. From then on, until the process ends, a policy of ours places what it would
have placed. The same commands give the same effects: what fails, fails at the same place.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from rota.core.cluster import Room
from rota.core.placement.base import CommonOrder, HasRoom, PlacementPolicy, RoomIndex
from rota.core.placement.consistent_hash import ConsistentHash
from rota.core.placement.policies import PLACEMENT_DEFAULT, POLICIES, ForeignPolicy, PolicyFactory
from rota.core.placement.spread import Spread
from rota.core.task import Task
from rota.core.workers import Worker

__all__ = ["GuardedPolicies", "PolicyFailure", "said"]

PROBLEM_CHARS_MAX: Final = 300
"""Of what is said of a failure to everybody who asks why a task waits."""

STAND_INS: Final = frozenset(POLICIES) - {ConsistentHash.name, Spread.name}
"""Ours that look at no tasks: one that does would have had to be told of all that the other has placed."""

T = TypeVar("T")


class PolicyFailure(Struct, frozen=True):
    """A policy that is not asked any more: what it did, in a sentence and at length, and which one stands in."""

    policy: str
    problem: str
    traceback: str
    stand_in: str


class GuardedPolicies(Mapping[str, PolicyFactory]):
    """Policies by name, those of other packages guarded.

    ``failures`` are those of policies that have failed since the process began, by their names.

    Args:
        factories: All that there are.
        default: The policy of the coordinator. It stands in, if it is one of `STAND_INS`.
    """

    def __init__(self, factories: Mapping[str, PolicyFactory], *, default: str = PLACEMENT_DEFAULT) -> None:
        self._factories = {
            name: factory if POLICIES.get(name) is factory else _GuardedFactory(self, name, factory)
            for name, factory in factories.items()
        }
        self.stand_in = default if default in STAND_INS else PLACEMENT_DEFAULT
        self.failures: dict[str, PolicyFailure] = {}
        self._news: list[PolicyFailure] = []

    def __getitem__(self, name: str) -> PolicyFactory:
        return self._factories[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __len__(self) -> int:
        return len(self._factories)

    def note(self, policy: str, error: BaseException) -> None:
        """Note that a policy has failed; said once, whatever else comes of it."""
        if policy in self.failures:
            return
        lines = "".join(traceback.format_exception(error))
        failure = self.failures[policy] = PolicyFailure(policy, said(error), lines, self.stand_in)
        self._news.append(failure)

    def take_news(self) -> Sequence[PolicyFailure]:
        """The failures that nobody has told of yet."""
        if not self._news:
            return ()
        news, self._news = self._news, []
        return news


class _GuardedFactory(ForeignPolicy):
    def __init__(self, guards: GuardedPolicies, name: str, factory: PolicyFactory) -> None:
        self._guards = guards
        self._name = name
        self._factory = factory

    def check(self) -> None:
        if isinstance(self._factory, ForeignPolicy):
            self._factory.check()

    def __call__(self, rng: random.Random) -> PlacementPolicy:
        return _Guarded(self._guards, self._name, self._factory, rng)


class _Guarded(PlacementPolicy):
    """One policy of another package, and the one that stands in for it."""

    def __init__(self, guards: GuardedPolicies, name: str, factory: PolicyFactory, rng: random.Random) -> None:
        super().__init__(rng)
        self._guards = guards
        self._own_name = name
        self._inner = self.tried(lambda: factory(rng))
        self._stand_in = POLICIES[guards.stand_in](rng)
        inner = self._inner
        traits = None
        if inner is not None:
            traits = self.tried(lambda: (bool(inner.looks_at_tasks), bool(inner.watches_lanes)))
        inner_looks, inner_watches = traits or (False, False)
        # Of this object and not of its class: it is what the one inside says.
        self.looks_at_tasks = inner_looks  # type: ignore[misc]  # see above
        self.watches_lanes = inner_watches or self._stand_in.watches_lanes  # type: ignore[misc]  # as above
        self._inner_watches = inner_watches

    @property
    def trouble(self) -> str | None:
        failure = self._guards.failures.get(self._own_name)
        if failure is None:
            return None
        return f"its placement policy {failure.policy!r} has failed ({failure.problem}): {failure.stand_in} stands in"

    @property
    def has_failed(self) -> bool:
        """Whether the other policy is not asked any more."""
        return self._own_name in self._guards.failures

    def tried(self, ask: Callable[[], T]) -> T | None:
        """What the policy of the other package says, or ``None`` if it has failed, now or before."""
        if self.has_failed:
            return None
        try:
            return ask()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the coordinator must go on
            self._guards.note(self._own_name, error)
            return None

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:
        inner = self._inner
        index = None if inner is None else self.tried(lambda: inner.make_index(room, workers))
        if index is None:
            return self._stand_in.make_index(room, workers)
        return _GuardedIndex(self, index, room=room, workers=workers)

    def make_order(self) -> CommonOrder | None:
        inner = self._inner
        order = None if inner is None else self.tried(inner.make_order)
        return None if order is None else _GuardedOrder(self, order)

    def substitute(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:
        """What an index of the policy that has failed gives way to."""
        return self._stand_in.make_index(room, workers)

    def key_of(self, task: Task) -> str:
        inner = self._inner
        return "" if inner is None else self.tried(lambda: _text(inner.key_of(task))) or ""

    def lane_opened(self, worker: Worker) -> None:
        inner = self._inner
        if inner is not None and self._inner_watches:
            self.tried(lambda: inner.lane_opened(worker))
        if self._stand_in.watches_lanes:
            self._stand_in.lane_opened(worker)

    def opened(self, worker: Worker, key: str) -> None:
        inner = self._inner
        if inner is not None:
            self.tried(lambda: inner.opened(worker, key))

    def closed(self, worker: Worker, key: str) -> None:
        inner = self._inner
        if inner is not None:
            self.tried(lambda: inner.closed(worker, key))


class _GuardedIndex:
    """An index of a policy of another package. It remembers whom it was told of, for who may have to follow it."""

    __slots__ = ("_index", "_is_ours", "_noted", "_policy", "_room")

    def __init__(self, policy: _Guarded, index: RoomIndex, *, room: Room, workers: Sequence[Worker]) -> None:
        self._policy = policy
        self._index = index
        self._is_ours = False
        self._room = room
        self._noted = dict.fromkeys(workers)

    def offer(self, worker: Worker) -> None:
        if self._is_ours:
            self._index.offer(worker)
            return
        self._noted[worker] = None
        self._policy.tried(lambda: self._index.offer(worker))

    def choose(self, key: str, has_room: HasRoom) -> Worker | None:
        if not self._is_ours:
            worker = self._policy.tried(lambda: _fitting(self._index.choose(key, has_room), has_room))
            if not self._policy.has_failed:
                return worker
            self._give_way()
        return self._index.choose(key, has_room)

    def _give_way(self) -> None:
        fits_now = self._room.fits_now
        self._index = self._policy.substitute(self._room, [worker for worker in self._noted if fits_now(worker)])
        self._is_ours = True
        self._noted = {}


class _GuardedOrder:
    """A common order of a policy of another package; once that has failed, it finds nobody, and indexes are asked."""

    __slots__ = ("_order", "_policy")

    def __init__(self, policy: _Guarded, order: CommonOrder) -> None:
        self._policy = policy
        self._order = order

    def offer(self, worker: Worker) -> None:
        self._policy.tried(lambda: self._order.offer(worker))

    def look(self, has_room: HasRoom) -> Worker | None:
        return self._policy.tried(lambda: _fitting(self._order.look(has_room), has_room))

    def __len__(self) -> int:
        return self._policy.tried(lambda: len(self._order)) or 0


def said(error: BaseException) -> str:
    """What an error says, in at most `PROBLEM_CHARS_MAX` characters; of one that can't even say that, its name."""
    try:
        return f"{type(error).__name__}: {error}"[:PROBLEM_CHARS_MAX]
    except Exception:  # noqa: BLE001 - whatever its own code raises
        return type(error).__name__


def _fitting(worker: Worker | None, has_room: HasRoom) -> Worker | None:
    """The worker that a policy chose, if it may have chosen it.

    Raises:
        ValueError: It may not.
    """
    if worker is not None and not has_room(worker):
        raise ValueError(f"it chose the worker {worker.id!r}, which has no room")
    return worker


def _text(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"key_of must return a text, got {key!r}")
    return key
