"""Sending bodies that take their time: followed logs, server-sent events, blobs.

A stream ends in one of four ways, and each is clean: its source ends, the client goes away, the
server stops, or the source fails. Only the last is a broken body for the client, which
must not take half of a log for the whole; it is logged once, here. A stream of known length is sent to its end
when the server stops: it has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import structlog
from starlette.types import Receive, Scope, Send

from rota.coordinator.http.answers import NO_SNIFF, Stream
from rota.coordinator.http.body import until_gone
from rota.core.errors import Overloaded

__all__ = ["STREAMS_MAX", "Streams", "close_iterator"]

STREAMS_MAX: Final = 1000
"""Open at once. Each holds a connection and some kilobytes for as long as its client likes."""

FAREWELL_S: Final = 1.0
"""For the last bytes to a client when the server stops: one that does not read must not hold us up."""

log = structlog.get_logger(__name__)


class Streams:
    """The open streams of one server."""

    def __init__(self) -> None:
        self._ending = asyncio.Event()  # of those that are open, and another one for those to come
        self._is_stopping = False
        self._open = 0

    @property
    def open(self) -> int:
        """How many are being sent."""
        return self._open

    def stop(self) -> None:
        """End all streams, those that are open and those to come."""
        self._is_stopping = True
        self._ending.set()

    def end_open(self) -> None:
        """End all streams that are open. Their clients come back, and are asked for their tokens again."""
        self._ending.set()
        if not self._is_stopping:
            self._ending = asyncio.Event()

    def check_room(self) -> None:
        """Raise `Overloaded` if there are too many."""
        if self._open >= STREAMS_MAX:
            raise Overloaded(f"{STREAMS_MAX} streams are open already: close some, or poll")

    async def send(self, stream: Stream, scope: Scope, *, receive: Receive, send: Send) -> None:
        """Send a stream to its end, whichever of the four it is."""
        headers = [*stream.headers, NO_SNIFF]
        if stream.length is not None:
            headers.append((b"content-length", b"%d" % stream.length))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await close_iterator(stream.chunks)
            await send({"type": "http.response.body", "body": b""})
            return
        self._open += 1
        try:
            is_whole = await self._pump_until_ended(stream, receive, send=send)
        except Exception:
            # The status is sent already: what is left is to break off, so that the client sees it.
            log.exception("stream_failed", path=scope["path"])
            raise
        finally:
            self._open -= 1
        if is_whole:
            with suppress(TimeoutError):
                await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), FAREWELL_S)

    async def _pump_until_ended(self, stream: Stream, receive: Receive, *, send: Send) -> bool:
        """Return whether the body is to be ended properly: not if there is nobody to read it."""
        pump = asyncio.ensure_future(_pump(stream.chunks, send))
        gone = asyncio.ensure_future(until_gone(receive))
        stop = gone if stream.length is not None else asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait((pump, gone, stop), return_when=asyncio.FIRST_COMPLETED)
            was_gone = gone.done() and not pump.done()
        finally:
            for task in (pump, gone, stop):
                task.cancel()
            await asyncio.wait((pump, gone, stop))
        failure = None if pump.cancelled() else pump.exception()
        if failure is not None:
            raise failure
        return not was_gone


async def _pump(chunks: AsyncIterator[bytes], send: Send) -> None:
    try:
        async for chunk in chunks:
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        await close_iterator(chunks)


async def close_iterator(iterator: AsyncIterator[object]) -> None:
    """Let an asynchronous generator clean up now; without this it would wait for the cyclic collector."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
