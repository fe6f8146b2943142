"""Workers as people see them: from what the scheduler knows, or from the record while there is none."""

from __future__ import annotations

from rota.coordinator.service import NodeView
from rota.core.cluster import Worker
from rota.core.model import WorkerRecord, WorkerState
from rota.process.clock import steady_s

__all__ = ["view_node", "view_recorded_node"]


def view_node(worker: Worker) -> NodeView:
    """A worker as the scheduler knows it."""
    return NodeView(
        id=worker.id,
        instance=worker.instance,
        state=worker.shown_state,
        offer=worker.offer,
        used=worker.ledger.used(),
        tasks=sum(len(lane.line) for lane in worker.lanes.values()),
        quarantined_slots=worker.quarantined,
        drained=worker.drained,
        registered_at=worker.registered_at,
        last_seen_s=max(0.0, steady_s() - worker.last_seen),
        usage=worker.usage,
    )


def view_recorded_node(record: WorkerRecord) -> NodeView:
    """A worker while there is no scheduler: all channels are closed then, so nothing is known of it but the record."""
    return NodeView(
        id=record.id,
        instance=record.instance,
        state=WorkerState.SUSPICIOUS if record.lost_at is None else WorkerState.OFFLINE,
        offer=record.offer,
        used={},
        tasks=0,
        quarantined_slots=0,
        drained=record.drained,
        registered_at=record.registered_at,
        last_seen_s=None,
        usage=None,
    )
