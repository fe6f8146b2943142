"""The policies by their names, and how one is made."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from rota.core.errors import BadSpec
from rota.core.placement.at_random import AtRandom
from rota.core.placement.base import PlacementPolicy
from rota.core.placement.binpack import BinPack
from rota.core.placement.consistent_hash import ConsistentHash
from rota.core.placement.first_fit import FirstFit
from rota.core.placement.least_loaded import LeastLoaded
from rota.core.placement.round_robin import RoundRobin
from rota.core.placement.spread import Spread

__all__ = ["PLACEMENT_DEFAULT", "POLICIES", "ForeignPolicy", "PolicyFactory", "check_placement"]

PolicyFactory = Callable[[random.Random], PlacementPolicy]


class ForeignPolicy(ABC):
    """A factory of a policy of another package, which is loaded when it is first asked for."""

    @abstractmethod
    def check(self) -> None:
        """See that there is a policy to be made.

        Raises:
            BadSpec: There is none: names the package and what is wrong with it.
        """

    @abstractmethod
    def __call__(self, rng: random.Random) -> PlacementPolicy:
        """Make it. Raises whatever comes of that."""


POLICIES: Final[Mapping[str, PolicyFactory]] = MappingProxyType(
    {policy.name: policy for policy in (AtRandom, RoundRobin, FirstFit, LeastLoaded, ConsistentHash, BinPack, Spread)}
)
"""Those that every coordinator has."""

PLACEMENT_DEFAULT: Final = LeastLoaded.name


def check_placement(name: str, known: Mapping[str, PolicyFactory]) -> None:
    """See that there is a policy of this name, and that it can be loaded.

    Raises:
        BadSpec: There is none; says which there are, or the near one. Or its package is broken; says how.
    """
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
        raise BadSpec("placement", f"there is no policy {name!r}; {hint}")
    factory = known[name]
    if isinstance(factory, ForeignPolicy):
        factory.check()
