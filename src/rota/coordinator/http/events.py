"""Server-sent events: one event a change of state, resumable by its id.

A client that reconnects says the last id that it saw, in the ``Last-Event-ID`` header (browsers do it by
themselves) or in the address. Where what came after is no longer known, the first event is `resync`:
ask for the state anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from rota.coordinator.events import is_event_id
from rota.coordinator.http.answers import Header, Stream
from rota.coordinator.http.endpoint import Call
from rota.coordinator.http.render import rfc3339
from rota.coordinator.http.streams import close_iterator
from rota.coordinator.service import Event
from rota.core.errors import BadRequest

__all__ = ["EventJson", "EventsQuery", "listen_to_events"]

RECONNECT_MS: Final = 2000
"""After which browsers come back: about what a restart of the coordinator takes."""

_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # Proxies that gather small answers would hold back events until there are many.
    (b"x-accel-buffering", b"no"),
)
_KEEP_ALIVE: Final = b":\n\n"
_OPENING: Final = b"retry: %d\n\n" % RECONNECT_MS
_encoder = msgspec.json.Encoder()


class EventsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on."""

    last_event_id: Annotated[str, Meta(description="Go on after this event; the header has precedence.")] | (
        UnsetType
    ) = UNSET


class EventJson(Struct, frozen=True, omit_defaults=True):
    """One change of state: of a task, or of a node; or how far a task says it is (``fraction`` of 1, and ``text``)."""

    id: str
    type: str
    time: str
    task: str | None = None
    node: str | None = None
    attempt: int | None = None
    cause: str | None = None
    fraction: float | None = None
    text: str | None = None


async def listen_to_events(call: Call) -> Stream:
    """Send events as they happen."""
    last_id = _last_id(call)
    call.streams.check_room()
    return Stream(_lines(call.service.events(last_id)), _HEADERS)


def _last_id(call: Call) -> str | None:
    asked = call.query_as(EventsQuery).last_event_id
    # Browsers send the header when they come back, with the address of the first time still the same.
    last_id = call.find_header(b"last-event-id") or (asked if asked is not UNSET else None)
    if last_id is not None and not is_event_id(last_id):
        raise BadRequest(f"{last_id!r} is not the id of an event, such as 17.0", code="bad_query")
    return last_id


async def _lines(events: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    try:
        yield _OPENING
        async for event in events:
            yield _KEEP_ALIVE if event is None else _text(event)
    finally:
        await close_iterator(events)


def _text(event: Event) -> bytes:
    content = EventJson(
        event.id,
        event.type,
        rfc3339(event.at),
        event.task,
        event.node,
        event.attempt,
        event.cause,
        event.fraction,
        event.text,
    )
    # JSON escapes every line break, so the data is one line whatever a task is called.
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.type.encode(), _encoder.encode(content))
