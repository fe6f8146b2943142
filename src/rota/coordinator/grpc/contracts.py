"""Which public services there are, and what does each."""

from __future__ import annotations

from rota.coordinator.grpc.handlers import Contract
from rota.coordinator.grpc.rota_service import RotaService
from rota.coordinator.grpc.scheduler_service import SchedulerService
from rota.coordinator.grpc.watching import OpenWatches
from rota.coordinator.service import Service
from rota.v1 import rota_pb2, scheduler_pb2

__all__ = ["public_contracts"]


def public_contracts(service: Service, watches: OpenWatches) -> list[Contract]:
    """Make the services for clients in any language.

    Args:
        service: What they call.
        watches: What their streams run under.
    """
    return [
        Contract(rota_pb2.DESCRIPTOR.services_by_name["Rota"], RotaService(service, watches)),
        Contract(scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"], SchedulerService(service)),
    ]
