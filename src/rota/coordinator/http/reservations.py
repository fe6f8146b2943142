"""Handlers of reservations, and what these look like in JSON."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Struct

from rota.coordinator.http.answers import Answer, json_answer
from rota.coordinator.http.body import decoded_body
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.render import rfc3339
from rota.coordinator.shares import ReservationView
from rota.core.errors import BadRequest
from rota.core.names import NAME_RULE, is_name
from rota.core.reservations import Reservation
from rota.core.resources import GPU_MEMORY
from rota.core.tags import TagSyntaxError, parse_tag

__all__ = [
    "RESERVATIONS_PATH",
    "ReservationBody",
    "ReservationJson",
    "end_reservation",
    "get_reservation",
    "list_reservations",
    "reserve",
]

RESERVATIONS_PATH: Final = "/api/v1/reservations"

SPAN_S_MAX: Final = 366 * 86_400.0

Moment = Annotated[datetime, Meta(tz=True)]


class ReservationBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be reserved: ``resources`` on each of ``workers`` workers (all that match if not given).

    It begins at ``start_at``, at once if not given, and lasts ``seconds``. It is for tasks of ``queue``, if that is
    given, and for those with the label ``reservation`` of its name.
    """

    name: str
    resources: dict[str, int]
    seconds: float
    start_at: Moment | None = None
    queue: str | None = None
    tags: list[str] = []
    workers: int | None = None


class ReservationJson(Struct, frozen=True, kw_only=True):
    """A reservation; ``on`` are the workers on which it is in force now."""

    name: str
    resources: dict[str, int]
    start_at: str
    end_at: str
    queue: str | None
    tags: list[str]
    workers: int | None
    on: list[str]


async def list_reservations(call: Call) -> Answer:
    """List those that are not over."""
    return json_answer(200, [_reservation_json(view) for view in call.service.shares.reservations()])


async def get_reservation(call: Call) -> Answer:
    """Return one."""
    return json_answer(200, _reservation_json(call.service.shares.reservation(call.path_values["name"])))


async def reserve(call: Call) -> Answer:
    """Reserve."""
    body = decoded_body(call.body, ReservationBody)
    await call.service.shares.set_reservation(body.name, _checked(body))
    return json_answer(201, _reservation_json(call.service.shares.reservation(body.name)))


async def end_reservation(call: Call) -> Answer:
    """End a reservation before its time."""
    view = call.service.shares.reservation(call.path_values["name"])
    await call.service.shares.set_reservation(view.name, None)
    return json_answer(200, _reservation_json(view))


def _checked(body: ReservationBody) -> Reservation:
    """Refuse nonsense, and turn the span into times of day."""
    if not is_name(body.name):
        raise BadRequest(f"name is {body.name!r}: use {NAME_RULE}")
    if not body.resources or any(not 0 < amount <= 10**12 for amount in body.resources.values()):
        raise BadRequest("resources must name at least one, each with a whole number above 0")
    if GPU_MEMORY in body.resources:
        raise BadRequest("resources: gpu_memory can't be reserved: reserve whole cards with gpu")
    if not 1 <= body.seconds <= SPAN_S_MAX:
        raise BadRequest(f"seconds is {body.seconds:g}: it must be 1 to {SPAN_S_MAX:,.0f}")
    if body.workers is not None and not 1 <= body.workers <= 10**6:
        raise BadRequest(f"workers is {body.workers}: it must be 1 to 1,000,000")
    start_at = time.time() if body.start_at is None else body.start_at.timestamp()
    if start_at + body.seconds <= time.time():
        raise BadRequest("start_at: it would be over already")
    return Reservation(
        start_at=start_at,
        end_at=start_at + body.seconds,
        resources=body.resources,
        queue=body.queue,
        tags=tuple(_checked_tag(tag) for tag in body.tags),
        workers=body.workers,
    )


def _checked_tag(text: str) -> str:
    try:
        return str(parse_tag(text))
    except TagSyntaxError as error:
        raise BadRequest(f"tags: {error}") from error


def _reservation_json(view: ReservationView) -> ReservationJson:
    one = view.reservation
    return ReservationJson(
        name=view.name,
        resources=one.resources,
        start_at=rfc3339(one.start_at),
        end_at=rfc3339(one.end_at),
        queue=one.queue,
        tags=list(one.tags),
        workers=one.workers,
        on=view.workers,
    )
