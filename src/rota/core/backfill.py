"""What may run on a worker that is kept for a large task without delaying it: EASY backfilling, a worker at a time.

The *shadow* is when the large task is thought to have room: when enough of what runs there has ended. A task that is
over by then may go first, and so may one that leaves enough beside the large task when it starts. How long tasks take
is known from their time-outs, which are bounds, or from what their class took so far, of which twice as much is
reckoned with.

References:
    D. Lifka, "The ANL/IBM SP Scheduling System", JSSPP 1995; A. Mu'alem, D. Feitelson, "Utilization, Predictability,
    Workloads, and User Runtime Estimates in Scheduling the IBM SP2 with Backfilling", IEEE TPDS 12(6), 2001.
"""

from __future__ import annotations

import math
from typing import Final

from rota.core.cluster import Room
from rota.core.estimates import UNKNOWN_S
from rota.core.prospects import Prospect
from rota.core.task import Task
from rota.core.workers import Lane, Worker

__all__ = ["delays", "longest_run_s", "shadow_of"]

CAUTION: Final = 2.0
"""How many times the mean of its class a task may take, as far as we reckon."""


def longest_run_s(room: Room, task: Task) -> float:
    """How long a task may run, as far as is known; infinite if nothing is."""
    estimate_s = room.run_times.estimate_s(task.terms.class_key)
    reckoned_s = CAUTION * estimate_s if estimate_s < UNKNOWN_S else math.inf
    bound_s = task.terms.timeout_s
    return reckoned_s if bound_s is None else min(bound_s, reckoned_s)


def shadow_of(worker: Worker, room: Room, now: float) -> float:
    """When a worker is thought to have room for a task of a shape; infinite if that can't be told.

    Cost: O(lanes × log lanes).
    """
    prospect = Prospect(worker, room)
    if prospect.has_room():
        return now
    for end, lane in sorted(((_end_of(lane, now), lane.id), lane) for lane in worker.lanes.values()):
        prospect.close(lane)
        if prospect.has_room():
            return end[0]
    return math.inf


def delays(worker: Worker, candidate: Room, run_s: float, *, large: Room, shadow: float, now: float) -> bool:
    """Say whether a task of one shape, given a lane now, may keep a large one from starting at its shadow.

    Cost: O(lanes of the worker), and nothing where the task is over in time.
    """
    if now + run_s <= shadow < math.inf:
        return False
    prospect = Prospect(worker, large)
    prospect.open(candidate)
    for lane in worker.lanes.values():
        if _end_of(lane, now) <= shadow < math.inf:
            prospect.close(lane)
    return not prospect.has_room()


def _end_of(lane: Lane, now: float) -> float:
    """When a lane is thought to be over: its head, and what stands behind it. Never in the past."""
    head_s = longest_run_s(lane.room, lane.line[0])
    behind_s = sum(longest_run_s(lane.room, task) for task in lane.line[1:])
    return max(now, lane.head_since + head_s) + behind_s
