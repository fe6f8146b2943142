"""The policies by their names, and how one is made."""

from __future__ import annotations

import random
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

__all__ = ["PLACEMENT_DEFAULT", "POLICIES", "PolicyFactory", "check_placement"]

PolicyFactory = Callable[[random.Random], PlacementPolicy]

POLICIES: Final[Mapping[str, PolicyFactory]] = MappingProxyType(
    {policy.name: policy for policy in (AtRandom, RoundRobin, FirstFit, LeastLoaded, ConsistentHash, BinPack, Spread)}
)
"""Those that every coordinator has."""

PLACEMENT_DEFAULT: Final = LeastLoaded.name


def check_placement(name: str, known: Mapping[str, PolicyFactory]) -> None:
    """See that there is a policy of this name.

    Raises:
        BadSpec: There is none; says which there are, or the near one.
    """
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
        raise BadSpec("placement", f"there is no policy {name!r}; {hint}")
