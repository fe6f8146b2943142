"""Reading what a client sends: bounded while it arrives, and never half of it.

A body over the limit is refused by its announced length before a byte of it is read, and a body
without one as soon as it is over. A client that goes away in the middle has sent nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Final, TypeVar

import msgspec
from msgspec import Struct
from starlette.types import Receive, Scope

from rota.core.errors import BadRequest, TooLarge

__all__ = [
    "BODY_BYTES_MAX",
    "ClientGone",
    "check_item_count",
    "decoded_body",
    "read_body",
    "read_chunks",
    "unless_gone",
    "unless_gone_by_and_by",
    "until_gone",
]

BODY_BYTES_MAX: Final = 8 << 20
"""Of one request: 10,000 tasks of some 800 bytes, and a bound on what one client makes us hold."""

WATCH_AFTER_S: Final = 0.5
"""Work that is usually over in milliseconds is watched only then: to watch costs two tasks, to plan it a timer."""

T = TypeVar("T")
B = TypeVar("B", bound=Struct)

_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class ClientGone(Exception):
    """The client closed the connection: there is nobody to answer. Never leaves the HTTP edge."""


async def read_body(scope: Scope, receive: Receive, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Read the whole body.

    Raises:
        TooLarge: Over ``bytes_max``, announced or sent.
        ClientGone: The client went away before its end.
    """
    _check_announced(scope, bytes_max)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(size, bytes_max)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Yield a body as it comes.

    Raises:
        ClientGone: The client went away before its end.
    """
    has_more = True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        has_more = message.get("more_body", False)
        yield message.get("body", b"")


def decoded_body(body: bytes, shape: type[B]) -> B:
    """Read one object from JSON.

    Raises:
        BadRequest: It is none of this shape; names the fields.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{error}; the fields are {', '.join(shape.__struct_fields__)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON in UTF-8: {error}") from error


def _check_announced(scope: Scope, bytes_max: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise BadRequest("Content-Length is not a number")
            if len(value) > 18 or int(value) > bytes_max:
                raise _too_large(None, bytes_max)


def _too_large(size: int | None, bytes_max: int) -> TooLarge:
    seen = "the body" if size is None else f"the body (already {size:,} bytes)"
    return TooLarge(f"{seen} is over the limit of {bytes_max:,} bytes: send several requests")


def check_item_count(body: bytes, items_max: int) -> None:
    """Refuse an array of too many objects before any of them is made.

    A hostile 8 MiB holds 2.8 million of ``{}``: as tasks they would be 1.3 GiB and hold up the loop for 2 s (0.2 s
    like this). Bodies with fewer braces than that, which are nearly all, cost a scan at 1 GB/s.

    Raises:
        TooLarge: There are more than ``items_max``.
        BadRequest: It is not JSON.
    """
    if body.count(b"{") <= items_max or body.lstrip(b" \t\r\n")[:1] != b"[":
        return
    try:
        count = len(_items_decoder.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON in UTF-8: {error}") from error
    if count > items_max:
        raise TooLarge(f"{count:,} tasks in one request: at most {items_max:,} are taken; send several requests")


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return


async def unless_gone(receive: Receive, work: Coroutine[object, object, T]) -> T:
    """Do something that takes long, unless the client goes away meanwhile.

    Raises:
        ClientGone: It did; the work was cancelled.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(until_gone(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
        # A failed task holds its exception, which holds this frame: a cycle that nothing would collect.
        del task, watch


async def unless_gone_by_and_by(receive: Receive, work: Coroutine[object, object, T]) -> T:
    """Do as `unless_gone` does for work that is hardly ever long, at next to no cost when it is not.

    Raises:
        ClientGone: The client went away and the work, which took long, was cancelled.
    """
    here = asyncio.current_task()
    assert here is not None
    watches: list[asyncio.Task[None]] = []

    def watch() -> None:
        watches.append(asyncio.ensure_future(until_gone(receive)))
        watches[0].add_done_callback(leave)

    def leave(gone: asyncio.Task[None]) -> None:
        if not gone.cancelled():
            here.cancel()

    timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, watch)
    try:
        return await work
    except asyncio.CancelledError:
        if watches and watches[0].done() and here.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        timer.cancel()
        for task in watches:
            task.remove_done_callback(leave)
            task.cancel()
