"""What is to be simulated: workers, work, policies and faults, as YAML says it or options do.

What may stand in the fields is looked at elsewhere: see `rota.simulator.scenarios`.
"""

from __future__ import annotations

from msgspec import Struct, field

from rota.core.queues import QueueSettings

__all__ = ["FaultPlan", "LoadPlan", "Plan", "QueuePlan", "WorkerPlan"]


class WorkerPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``count`` like workers, called ``name`` and a number. ``gpus`` are the MiB of each card.

    Of ``speed`` 0.5 is a worker on which everything takes twice as long. They start ``starts_at`` seconds in.
    """

    count: int = 1
    name: str = "w"
    cpu: int = 4000
    memory: int = 16_000
    gpus: list[int] = []
    resources: dict[str, int] = {}
    tags: list[str] = []
    max_tasks: int | None = None
    starts_at: float = 0.0
    speed: float = 1.0


class LoadPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tasks that come: as a pattern of arrivals and a mix have it, or as a ``trace`` file does.

    Two of ``rate`` (tasks a second), ``tasks`` and ``duration`` say how many come within what time. ``time_scale``
    stretches the times of a trace at which tasks come, and not how long they run. ``resources`` are what each task asks
    for instead of what the mix says.
    """

    arrivals: str = "steady"
    mix: str = "mixed"
    rate: float | None = None
    tasks: int | None = None
    duration: float | None = None
    mean_duration: float = 10.0
    durations: str = "exponential"
    shapes: int = 0
    resources: dict[str, int] = {}
    starts_at: float = 0.0
    trace: str | None = None
    time_scale: float = 1.0
    queue: str = "default"
    priority: int | str | None = None
    tags: list[str] = []
    placement: str | None = None
    limits: dict[str, int] = {}
    timeout: float | None = None
    retries: int = 0
    losses: int = 5


class FaultPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"lasts": "for"}):
    """Something that happens ``at`` a time, or again and again with a mean of ``every`` seconds between.

    To ``worker``, to all whose names begin so where that ends in ``*``, or to one drawn by lot. What is broken is
    mended ``for`` so many seconds later. ``speed`` is that of a slow worker; ``part`` of the messages are lost, come
    twice, or take longer by ``delay`` seconds, more or less. A coordinator that crashes at a ``commit`` does so while
    that is under way, counted from then.
    """

    kind: str
    at: float | None = None
    every: float | None = None
    lasts: float = 30.0
    worker: str | None = None
    speed: float | None = None
    part: float | None = None
    delay: float | None = None
    commit: int | None = None


class QueuePlan(QueueSettings, frozen=True, forbid_unknown_fields=True):
    """A queue's settings, as `rota queues set` would make them."""


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole run. ``until`` ends it, however much is left to do."""

    workers: list[WorkerPlan] = field(default_factory=lambda: [WorkerPlan()])
    load: list[LoadPlan] = field(default_factory=list)
    placement: str = "least-loaded"
    ordering: str = "priority"
    ageing: float = 0.0
    queues: dict[str, QueuePlan] = {}
    limits: dict[str, int] = {}
    faults: list[FaultPlan] = []
    heartbeat: float | None = None
    seed: int = 0
    until: float | None = None
