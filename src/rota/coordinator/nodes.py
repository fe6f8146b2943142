"""Workers as people see them: from what the scheduler knows, or from the record while there is none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from rota.coordinator.service import NodeView
from rota.core.client_protocol import NodeFacts
from rota.core.model import WorkerId, WorkerRecord, WorkerState
from rota.core.workers import Worker
from rota.process.clock import steady_s

__all__ = ["NodeFactsBook", "view_node", "view_recorded_node"]

FACTS_MAX: Final = 32
FACTS_BYTES_MAX: Final = 1 << 20
"""Of what a client is told of workers' packages: it needs them for a warning, and every client asks."""


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


class NodeFactsBook:
    """What clients must know of the workers that run functions: of equal ones the first speaks for all.

    Made anew only when a worker has come or gone, since all clients come back at once after a restart.
    """

    def __init__(self) -> None:
        self._workers: list[tuple[WorkerId, str]] = []
        self._facts: list[NodeFacts] = []

    def facts_of(self, workers: Iterable[Worker]) -> list[NodeFacts]:
        """Return one for each kind of those workers that are connected and have a Python, up to a limit."""
        able = [worker for worker in workers if worker.session is not None and worker.offer.python]
        names = sorted((worker.id, worker.instance) for worker in able)
        if names != self._workers:
            self._workers, self._facts = names, _distinct_facts(sorted(able, key=lambda worker: worker.id))
        return self._facts


def _distinct_facts(workers: Iterable[Worker]) -> list[NodeFacts]:
    kept: list[NodeFacts] = []
    bytes_left = FACTS_BYTES_MAX
    for worker in workers:
        offer = worker.offer
        if any(facts.python == offer.python and facts.packages == offer.packages for facts in kept):
            continue
        facts = NodeFacts(worker.id, offer.python, offer.packages)
        bytes_left -= len(msgspec.msgpack.encode(facts))
        if len(kept) == FACTS_MAX or bytes_left < 0:
            break
        kept.append(facts)
    return kept
