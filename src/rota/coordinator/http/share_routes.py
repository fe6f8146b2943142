"""The routes of queues, limits and reservations, for the table of all routes."""

from __future__ import annotations

from typing import Final

from rota.coordinator.http.endpoint import Body, Documented, Endpoint
from rota.coordinator.http.reservations import (
    RESERVATIONS_PATH,
    ReservationBody,
    ReservationJson,
    end_reservation,
    get_reservation,
    list_reservations,
    reserve,
)
from rota.coordinator.http.shares import (
    LIMITS_PATH,
    QUEUES_PATH,
    LimitBody,
    LimitJson,
    QueueBody,
    QueueJson,
    forget_queue,
    get_limit,
    get_queue,
    list_limits,
    list_queues,
    pause_queue,
    put_limit,
    put_queue,
    remove_limit,
    resume_queue,
)
from rota.core.errors import Conflict, NotFound, Unavailable

__all__ = ["RESERVATIONS", "SHARES"]

SHARES: Final = (
    Endpoint(
        method="GET",
        path=QUEUES_PATH,
        summary="List the queues",
        handler=list_queues,
        answers=(Documented(200, "All that are set or that tasks have named, by name.", list[QueueJson]),),
        errors=(Unavailable,),
        group="queues and limits",
    ),
    Endpoint(
        method="GET",
        path=QUEUES_PATH + "/{name}",
        summary="Show a queue",
        handler=get_queue,
        answers=(Documented(200, "The queue.", QueueJson),),
        errors=(NotFound, Unavailable),
        group="queues and limits",
    ),
    Endpoint(
        method="PUT",
        path=QUEUES_PATH + "/{name}",
        summary="Set a queue; what is left out gets its default",
        handler=put_queue,
        body=Body("What is to be set.", QueueBody),
        answers=(
            Documented(200, "It was set before.", QueueJson),
            Documented(201, "It was not.", QueueJson),
        ),
        errors=(Unavailable,),
        group="queues and limits",
    ),
    Endpoint(
        method="DELETE",
        path=QUEUES_PATH + "/{name}",
        summary="Give a queue the defaults again; its tasks stay",
        handler=forget_queue,
        answers=(Documented(200, "The queue as it is now.", QueueJson),),
        errors=(NotFound, Unavailable),
        group="queues and limits",
    ),
    Endpoint(
        method="POST",
        path=QUEUES_PATH + "/{name}/pause",
        summary="Start nothing more of a queue; what runs goes on",
        handler=pause_queue,
        answers=(
            Documented(200, "The queue, paused.", QueueJson),
            Documented(201, "The same; nothing had been set of it before.", QueueJson),
        ),
        errors=(NotFound, Unavailable),
        group="queues and limits",
    ),
    Endpoint(
        method="POST",
        path=QUEUES_PATH + "/{name}/resume",
        summary="Undo a pause",
        handler=resume_queue,
        answers=(
            Documented(200, "The queue.", QueueJson),
            Documented(201, "The same; nothing had been set of it before.", QueueJson),
        ),
        errors=(NotFound, Unavailable),
        group="queues and limits",
    ),
    Endpoint(
        method="GET",
        path=LIMITS_PATH,
        summary="List the limits",
        handler=list_limits,
        answers=(Documented(200, "All of them, by name.", list[LimitJson]),),
        errors=(Unavailable,),
        group="queues and limits",
    ),
    Endpoint(
        method="GET",
        path=LIMITS_PATH + "/{name}",
        summary="Show a limit",
        handler=get_limit,
        answers=(Documented(200, "The limit.", LimitJson),),
        errors=(NotFound, Unavailable),
        group="queues and limits",
    ),
    Endpoint(
        method="PUT",
        path=LIMITS_PATH + "/{name}",
        summary="Make a limit, or change how much there is of it; what holds more goes on",
        handler=put_limit,
        body=Body("How much there is.", LimitBody),
        answers=(
            Documented(200, "It was there before.", LimitJson),
            Documented(201, "It is new.", LimitJson),
        ),
        errors=(Unavailable,),
        group="queues and limits",
    ),
    Endpoint(
        method="DELETE",
        path=LIMITS_PATH + "/{name}",
        summary="Remove a limit that no unfinished task names",
        handler=remove_limit,
        answers=(Documented(200, "The limit as it was.", LimitJson),),
        errors=(NotFound, Conflict, Unavailable),
        group="queues and limits",
    ),
)

RESERVATIONS: Final = (
    Endpoint(
        method="GET",
        path=RESERVATIONS_PATH,
        summary="List the reservations that are not over",
        handler=list_reservations,
        answers=(Documented(200, "All of them, by name.", list[ReservationJson]),),
        errors=(Unavailable,),
        group="queues and limits",
    ),
    Endpoint(
        method="GET",
        path=RESERVATIONS_PATH + "/{name}",
        summary="Show a reservation",
        handler=get_reservation,
        answers=(Documented(200, "The reservation.", ReservationJson),),
        errors=(NotFound, Unavailable),
        group="queues and limits",
    ),
    Endpoint(
        method="POST",
        path=RESERVATIONS_PATH,
        summary="Reserve resources of workers for a queue or a label, for a span of time",
        handler=reserve,
        body=Body("What is to be reserved.", ReservationBody),
        answers=(Documented(201, "The reservation.", ReservationJson),),
        errors=(Conflict, Unavailable),
        group="queues and limits",
    ),
    Endpoint(
        method="DELETE",
        path=RESERVATIONS_PATH + "/{name}",
        summary="End a reservation before its time",
        handler=end_reservation,
        answers=(Documented(200, "The reservation as it was.", ReservationJson),),
        errors=(NotFound, Unavailable),
        group="queues and limits",
    ),
)
