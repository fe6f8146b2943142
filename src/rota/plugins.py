"""Placement policies of other packages: found by their entry points, loaded when one is first asked for.

A package that is installed and not asked for costs nothing, however broken it is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import structlog

from rota.core.errors import BadSpec
from rota.core.placement.base import PlacementPolicy
from rota.core.placement.guarded import said
from rota.core.placement.policies import POLICIES, ForeignPolicy, PolicyFactory

__all__ = ["PLACEMENT_GROUP", "load_policies"]

PLACEMENT_GROUP: Final = "rota.placement"
"""The group of entry points: ``name = "package.module:PolicyClass"``."""

log = structlog.get_logger(__name__)


def load_policies() -> dict[str, PolicyFactory]:
    """Return all policies by name, those of other packages among them, which are not loaded yet.

    One that has the name of one of ours is left out, which is logged: ours keep doing what they are known for.
    """
    policies: dict[str, PolicyFactory] = dict(POLICIES)
    points: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=PLACEMENT_GROUP):
        points.setdefault(point.name, []).append(point)
    for name, found in sorted(points.items()):
        if name in POLICIES:
            log.warning(
                "placement_policy_left_out", policy=name, package=_package_of(found[0]), why="the name is taken"
            )
        else:
            policies[name] = _Installed(name, found)
    return policies


class _Installed(ForeignPolicy):
    """The policy of an entry point. What was wrong with it once stays so until the process ends."""

    def __init__(self, name: str, points: Sequence[EntryPoint]) -> None:
        self._name = name
        self._points = points
        self._policy: type[PlacementPolicy] | None = None
        self._problem: str | None = None

    def check(self) -> None:
        """Load it, and see that one can be made.

        Raises:
            BadSpec: It can't.
        """
        if self._policy is None and self._problem is None:
            try:
                self._policy = self._loaded()
                self._policy(random.Random(0))
            except (Exception, SystemExit) as error:  # whatever a package raises while it is loaded
                self._policy = None
                self._problem = said(error)
                log.exception("placement_policy_unusable", policy=self._name, package=_package_of(self._points[0]))
        if self._problem is not None:
            packages = " and ".join(sorted({_package_of(point) for point in self._points}))
            raise BadSpec("placement", f"the policy {self._name!r} of {packages} can't be used: {self._problem}")

    def __call__(self, rng: random.Random) -> PlacementPolicy:
        self.check()
        assert self._policy is not None
        return self._policy(rng)

    def _loaded(self) -> type[PlacementPolicy]:
        if len(self._points) > 1:
            values = " and ".join(point.value for point in self._points)
            raise ValueError(f"there are several of this name, {values}: remove one of the packages")
        policy = self._points[0].load()
        if not (isinstance(policy, type) and issubclass(policy, PlacementPolicy)):
            raise TypeError(f"{self._points[0].value} is no subclass of rota.core.placement.base.PlacementPolicy")
        return policy


def _package_of(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist is not None else point.value
