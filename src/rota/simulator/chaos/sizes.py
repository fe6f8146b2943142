"""The two scenarios: a small one for quick coverage, and the standard one, 50 workers and 500 tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rota.core.config import SchedulerConfig
from rota.core.model import Gpu, Offer

__all__ = ["SMALL", "STANDARD", "Size"]

CONFIG: Final = SchedulerConfig(
    heartbeat_s=1.0,
    suspicious_after_s=3.0,
    offline_after_s=6.0,
    grace_s=1.0,
    blackout_s=8.0,
    impossible_after_s=15.0,
    kill_grace_s=0.5,
    lease_s=8.0,
    lease_grace_s=0.5,
    exclusive_wait_s=10.5,
    forget_after_s=12.0,
)
"""Where workers may be given up, they are to be given up often: hence the short grace."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a scenario is.

    Attributes:
        offers: Of its workers, over and over.
        workers: From and to: how many are drawn.
        tasks: How many are submitted; as many as come of the batches if not given.
        batches: From and to, where the number of tasks does not say.
        faults_s: From and to: how long faults go on.
        faults_max: Of one kind.
        meddling_max: Of changes by operators.
        calm_s: Of peace, until all workers are back and nobody waits behind what never ends; after as much again that
            is cancelled.
        peace_s: In which everything must end: impossible tasks wait longest, and long ones run for seconds.
        full_every: Steps from one look at everything to the next.
        restart_part: Of the commits after which a restart is tried.
        config: How patient the core is.
    """

    offers: tuple[Offer, ...]
    workers: tuple[int, int]
    tasks: int | None = None
    batches: tuple[int, int] = (3, 20)
    faults_s: tuple[float, float]
    faults_max: int
    meddling_max: int
    calm_s: float
    peace_s: float
    full_every: int
    restart_part: float
    config: SchedulerConfig = CONFIG


SMALL: Final = Size(
    offers=(
        Offer((("cpu", 3000), ("memory", 400)), frozenset({"ssd"}), gpus=(Gpu(4000), Gpu(8000))),
        Offer((("cpu", 2000), ("memory", 1000)), max_tasks=3),
        Offer((("cpu", 1000),), frozenset({"ssd"}), gpus=(Gpu(8000),)),
        Offer((("cpu", 4000), ("memory", 200))),
    ),
    workers=(1, 4),
    faults_s=(5.0, 25.0),
    faults_max=6,
    meddling_max=6,
    calm_s=30.0,
    peace_s=180.0,
    full_every=4,
    restart_part=0.02,
)

STANDARD: Final = Size(
    offers=(
        Offer((("cpu", 2000), ("memory", 400)), frozenset({"ssd"}), gpus=(Gpu(4000), Gpu(8000))),
        Offer((("cpu", 1000), ("memory", 1000)), max_tasks=3),
        Offer((("cpu", 1000),), frozenset({"ssd"}), gpus=(Gpu(8000),)),
        Offer((("cpu", 1500), ("memory", 200))),
        Offer((("cpu", 500), ("memory", 100))),
    ),
    workers=(50, 50),
    tasks=500,
    faults_s=(8.0, 16.0),
    faults_max=8,
    meddling_max=8,
    calm_s=15.0,
    peace_s=120.0,
    full_every=256,
    restart_part=0.004,
)
