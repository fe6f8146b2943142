"""Placement policies of other packages: found by their entry points when a coordinator starts."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

from rota.core.placement.base import PlacementPolicy
from rota.core.placement.policies import POLICIES, PolicyFactory

__all__ = ["PLACEMENT_GROUP", "load_policies"]

PLACEMENT_GROUP: Final = "rota.placement"
"""The group of entry points: ``name = "package.module:PolicyClass"``."""


def load_policies() -> dict[str, PolicyFactory]:
    """Return all policies by name, those of other packages among them.

    Raises:
        ValueError: One can't be loaded, is no policy, or has the name of one that is there already.
    """
    policies: dict[str, PolicyFactory] = dict(POLICIES)
    for point in entry_points(group=PLACEMENT_GROUP):
        where = f"the placement policy {point.name!r} of {point.value}"
        try:
            policy = point.load()
        except Exception as error:
            raise ValueError(f"{where} can't be loaded: {type(error).__name__}: {error}") from error
        if not (isinstance(policy, type) and issubclass(policy, PlacementPolicy)):
            raise ValueError(f"{where} is no subclass of rota.core.placement.base.PlacementPolicy")
        if point.name in policies:
            raise ValueError(f"{where} has a name that is taken: choose another")
        policies[point.name] = policy
    return policies
