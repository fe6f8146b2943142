"""What is submitted: batches of like tasks, each drawn from a generator of its own before the run begins.

So a batch is the same whichever others are left out.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from rota.simulator.chaos.chores import RUN_S

__all__ = ["BATCH_MAX", "QUEUES", "TaskBatch", "draw_batch"]

BATCH_MAX: Final = 20
FAVOURITE_PART: Final = 0.8

GANG_PART: Final = 0.2
GANG_MAX: Final = 5
INCOMPLETE_PART: Final = 0.1
"""Of gangs, those of which a member never comes."""

SHAPES: Final[tuple[dict[str, Any], ...]] = (
    {"resources": {"cpu": 1000}},
    {"resources": {"cpu": 1000}},
    {"resources": {"cpu": 500, "memory": 100}},
    {"resources": {"cpu": 2000}},
    {"resources": {"cpu": 500}, "tags": ["ssd"]},
    {"resources": {"cpu": 100, "gpu": 1}},
    {"resources": {"cpu": 100, "gpu_memory": 3000}},
    {"resources": {"cpu": 64_000}},  # more than anybody has
)

EXTRAS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {},
    {},
    {"retries": 2, "backoff": 0.2},
    {"losses": 0},
    {"exclusive": True},
    {"exclusive": True, "retries": 1, "backoff": 0.2},
    {"delay": 2},
    {"deadline": 6},
    {"priority": "high"},
    {"priority": "low", "retries": 1, "backoff": 0},
)

QUEUES: Final = ("default", "default", "blue", "green")
LIMITED: Final[tuple[dict[str, Any], ...]] = ({"limits": {"licences": 1}}, {"limits": {"licences": 2, "database": 1}})
CLAIM: Final[dict[str, Any]] = {"labels": {"reservation": "tonight"}}


class TaskBatch(Struct, frozen=True):
    """Like tasks that are submitted at once. ``ids`` are chosen ones, or ``None`` for each."""

    number: int
    at: float
    fields: dict[str, Any]
    ids: tuple[str | None, ...]


def draw_batch(seed: int, number: int, *, seconds: float, favourite: Mapping[str, object] | None = None) -> TaskBatch:
    """Draw one of the batches of a seed, for some time within so many seconds."""
    rng = random.Random(f"rota/{seed}/batch/{number}")
    count = rng.randint(1, BATCH_MAX)
    name = rng.choice(sorted(RUN_S))
    extra = {"deadline": 4} if name == "endless" else rng.choice(EXTRAS)
    fields = {"name": name, "command": ["work"], **rng.choice(SHAPES), **extra, **_draw_sharing(rng)}
    wants = favourite or {}
    if wants and rng.random() < FAVOURITE_PART:
        fields |= {key: value for key, value in wants.items() if key != "gang"}
    if rng.random() < (1.0 if "gang" in wants else GANG_PART):
        count = min(count, GANG_MAX)
        fields["gang"] = {"id": f"g{number}", "size": count + (rng.random() < INCOMPLETE_PART)}
    are_chosen = rng.random() < 0.7
    ids = tuple(f"b{number}-{index}" if are_chosen else None for index in range(count))
    return TaskBatch(number, rng.uniform(0.0, seconds), fields, ids)


def _draw_sharing(rng: random.Random) -> dict[str, Any]:
    """What it has in common with others: a queue, limits, a reservation, and which of them goes first."""
    fields: dict[str, Any] = {"queue": rng.choice(QUEUES)}
    if rng.random() < 0.15:
        fields |= rng.choice(LIMITED)
    if rng.random() < 0.1:
        fields |= CLAIM
    if rng.random() < 0.3:
        fields["priority"] = rng.randint(0, 100)
    return fields
