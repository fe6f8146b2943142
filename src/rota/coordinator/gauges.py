"""What the metrics page shows as of now, looked up in the state of the scheduler.

Cost: O(workers + groups + queues), some milliseconds for a page that is read every few seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from rota.coordinator.metrics import QueueGauge
from rota.core.model import Reason, WorkerState
from rota.core.state import State

__all__ = ["QUEUES_MAX", "queue_gauges", "slots_quarantined", "workers_by_state"]

QUEUES_MAX: Final = 100
"""Users may name as many as they like, and each costs the monitoring three series: the busiest have their own."""

OTHERS: Final = "(others)"
"""Under which the rest is summed up; no queue can be called so."""


def workers_by_state(state: State) -> Mapping[WorkerState, int]:
    """Count the known workers."""
    return Counter(worker.shown_state for worker in state.cluster.workers.values())


def slots_quarantined(state: State) -> int:
    """Count the slots that could not be emptied, on all workers."""
    return sum(worker.quarantined for worker in state.cluster.workers.values())


def queue_gauges(state: State, *, now: float, wall: float) -> list[QueueGauge]:
    """Say of each queue what waits for a worker, and how long its first task has, and what runs.

    What is paused waits because somebody wants it to: its time does not count.

    Args:
        state: The scheduler's; its own clock stands still where nothing happens.
        now: Steady clock.
        wall: Wall clock.

    Returns:
        Those of the busiest queues, at most `QUEUES_MAX`, and one for the rest.
    """
    pending = Counter[str]()
    oldest: dict[str, float] = {}
    for group in state.pending.all_groups():
        name = group.stream.queue
        pending[name] += group.size
        head = group.head()
        if head is not None and group.block is not Reason.PAUSED:
            waited_s = now - state.arrivals.at(head.seq)
            if head.start_at is not None:
                waited_s = min(waited_s, wall - head.start_at)
            oldest[name] = max(oldest.get(name, 0.0), waited_s)
    gauges = [
        QueueGauge(queue.name, pending[queue.name], queue.running, oldest.get(queue.name, 0.0))
        for queue in state.queues.all()
    ]
    gauges.sort(key=lambda gauge: (-gauge.pending - gauge.running, gauge.name))
    own, rest = gauges[:QUEUES_MAX], gauges[QUEUES_MAX:]
    if rest:
        waiting, running = sum(gauge.pending for gauge in rest), sum(gauge.running for gauge in rest)
        own.append(QueueGauge(OTHERS, waiting, running, max(gauge.oldest_s for gauge in rest)))
    return own
