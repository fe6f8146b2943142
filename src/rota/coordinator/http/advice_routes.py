"""The routes of placement alone, for the table of all routes."""

from __future__ import annotations

from typing import Final

from rota.coordinator.http.advice import (
    HEARTBEAT_PATH,
    REQUEST_BYTES_MAX,
    SCHEDULE_PATH,
    AcknowledgedJson,
    AdvisedJson,
    HeartbeatJson,
    NoRoomJson,
    OwnWorkerJson,
    PlacedJson,
    ScheduleJson,
    list_own_workers,
    schedule_batch,
    schedule_task,
    take_heartbeat,
)
from rota.coordinator.http.endpoint import Body, Documented, Endpoint
from rota.core.errors import Overloaded, TooLarge

__all__ = ["PLACEMENT_ONLY", "SCHEDULE_TASK", "TAKE_HEARTBEAT"]

TAKE_HEARTBEAT: Final = Endpoint(
    method="POST",
    path=HEARTBEAT_PATH,
    summary="Say that a worker of your own lives, and how much it has to do",
    handler=take_heartbeat,
    body=Body("What the worker says of itself.", HeartbeatJson, bytes_max=REQUEST_BYTES_MAX),
    answers=(Documented(200, "It is known now.", AcknowledgedJson),),
    errors=(TooLarge, Overloaded),
    group="placement-only",
)

SCHEDULE_TASK: Final = Endpoint(
    method="POST",
    path=SCHEDULE_PATH,
    summary="Ask which of your own workers should have a task, at once or when one has room",
    handler=schedule_task,
    body=Body("What the task needs.", ScheduleJson, bytes_max=REQUEST_BYTES_MAX),
    answers=(
        Documented(200, "This one: the task is counted on it.", PlacedJson),
        Documented(503, "None has room, or none has what is required.", NoRoomJson),
    ),
    errors=(TooLarge, Overloaded),
    group="placement-only",
)

PLACEMENT_ONLY: Final = (
    TAKE_HEARTBEAT,
    SCHEDULE_TASK,
    Endpoint(
        method="POST",
        path=SCHEDULE_PATH + "/batch",
        summary="Ask for workers for many tasks",
        handler=schedule_batch,
        body=Body("At most 10,000 of what a single request has, without `max_wait_ms`.", list[ScheduleJson]),
        answers=(Documented(200, "Each task with its worker or an error, in the same order.", list[AdvisedJson]),),
        errors=(TooLarge, Overloaded),
        group="placement-only",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/workers",
        summary="List your own workers, as their heartbeats and what they were given say",
        handler=list_own_workers,
        answers=(Documented(200, "All that are known, in order of their ids.", list[OwnWorkerJson]),),
        group="placement-only",
    ),
)
