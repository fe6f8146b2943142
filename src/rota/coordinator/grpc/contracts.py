"""Which public services there are, and what does each."""

from __future__ import annotations

from rota.coordinator.grpc.blobs_service import BlobsService
from rota.coordinator.grpc.handlers import Contract
from rota.coordinator.grpc.rota_service import RotaService
from rota.coordinator.grpc.scheduler_service import SchedulerService
from rota.coordinator.grpc.watching import OpenWatches
from rota.coordinator.service import Service
from rota.store.blobs import BlobStore
from rota.v1 import blobs_pb2, rota_pb2, scheduler_pb2

__all__ = ["public_contracts"]


def public_contracts(service: Service, watches: OpenWatches, *, blobs: BlobStore) -> list[Contract]:
    """Make the services for clients in any language.

    Args:
        service: What they call.
        watches: What streams without an end of their own run under.
        blobs: What their tasks name.
    """
    return [
        Contract(rota_pb2.DESCRIPTOR.services_by_name["Rota"], RotaService(service, watches)),
        Contract(blobs_pb2.DESCRIPTOR.services_by_name["Blobs"], BlobsService(blobs)),
        Contract(scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"], SchedulerService(service)),
    ]
