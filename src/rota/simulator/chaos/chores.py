"""What the tasks of a disaster do: it is in their names, and the rest is drawn."""

from __future__ import annotations

from typing import Final

from rota.core.model import Cause
from rota.core.protocol import Assignment
from rota.core.spec import decode_spec
from rota.simulator.chores import Chore
from rota.simulator.world import World

__all__ = ["ENDLESS", "RUN_S", "NamedChores"]

RUN_S: Final[dict[str, tuple[float, float]]] = {
    "quick": (0.001, 0.02),
    "short": (0.005, 0.08),
    "long": (0.5, 6.0),
    "mixed": (0.002, 5.0),
    "flaky": (0.005, 0.5),
    "trap": (0.001, 0.02),
    "endless": (1e6, 1e6),
}
"""How long a task takes, by its name. Some are short enough for lines; a few traps never end."""

ENDLESS: Final = frozenset({"trap", "endless"})
TRAP_PART: Final = 0.1

FAILURES: Final = (Cause.EXIT, Cause.SIGNAL, Cause.TIMEOUT, Cause.OOM)
FLAKY_PART: Final = 0.5


class NamedChores:
    """Draws a run time and an end for each attempt, by the name of its task."""

    def __init__(self, world: World) -> None:
        self._world = world

    def chore_of(self, given: Assignment) -> Chore:
        name = decode_spec(given.spec).name
        assert name is not None
        if name == "trap" and self._world.chance(TRAP_PART):
            name = "endless"
        fails = name == "flaky" and self._world.chance(FLAKY_PART)
        return Chore(self._world.draw(RUN_S[name]), self._world.rng.choice(FAILURES) if fails else None)
