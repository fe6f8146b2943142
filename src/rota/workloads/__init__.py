"""Work that nobody asked for: when tasks come, and what they do. For the simulator, for trying a cluster, for tests."""

from __future__ import annotations

from rota.workloads.arrivals import ARRIVALS, ArrivalPattern, make_arrivals
from rota.workloads.durations import DURATIONS, Durations, make_durations
from rota.workloads.mixes import MIXES, Mix, WorkloadTask, make_mix

__all__ = [
    "ARRIVALS",
    "DURATIONS",
    "MIXES",
    "ArrivalPattern",
    "Durations",
    "Mix",
    "WorkloadTask",
    "make_arrivals",
    "make_durations",
    "make_mix",
]
