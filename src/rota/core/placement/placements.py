"""The placement of one coordinator: a policy of each name that is asked for, made when it is first asked for."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from rota.core.cluster import Room
from rota.core.placement.base import PlacementPolicy, RoomIndex
from rota.core.placement.policies import PLACEMENT_DEFAULT, POLICIES, PolicyFactory
from rota.core.placement.tiers import Tiers
from rota.core.workers import Worker

__all__ = ["Placements"]


class Placements:
    """Policies by name.

    ``watching`` are those that want to know of every lane that is opened.

    Args:
        rng: The scheduler's.
        default: What tasks get that name no policy, or one that is gone: a package that was removed must not keep a
            coordinator from loading its tasks.
        factories: All that there are.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        default: str = PLACEMENT_DEFAULT,
        factories: Mapping[str, PolicyFactory] = POLICIES,
    ) -> None:
        self._rng = rng
        self._default = default
        self._factories = factories
        self._policies: dict[str, PlacementPolicy] = {}
        self.watching: list[PlacementPolicy] = []

    def policy(self, name: str | None) -> PlacementPolicy:
        """The policy of this name, or the one for all who name none."""
        if name is None or name not in self._factories:
            name = self._default
        policy = self._policies.get(name)
        if policy is None:
            policy = self._policies[name] = self._factories[name](self._rng)
            if policy.watches_lanes:
                self.watching.append(policy)
        return policy

    def make_index(self, room: Room, workers: Sequence[Worker]) -> RoomIndex:
        """Make the index of a shape: its policy's own, or one for each tier of preferred tags."""
        policy = room.policy
        if not room.filter.has_preferences:
            return policy.make_index(room, workers)
        return Tiers(lambda: policy.make_index(room, ()), room.preference, workers)
